"""Five trits a byte in the hardware's code, and the order in which the lanes take them."""

from itertools import product

import numpy as np
import pytest

from unmul.gateware.weight_code import decode_trits, encode_trits, pack_rows, unpack_rows

ALL = np.array(list(product((-1, 0, 1), repeat=5)), np.int8)


def test_every_five_trits_have_a_byte_of_their_own():
    packed = encode_trits(ALL)
    assert np.unique(packed).size == 243
    assert (decode_trits(packed) == ALL).all()


@pytest.mark.parametrize(
    ("rows", "columns", "lanes"), [(1, 1, 16), (7, 77, 16), (3, 64, 64), (5, 130, 65), (2, 63, 64)]
)
def test_rows_come_back_from_the_stream_whatever_the_lanes(rows, columns, lanes):
    code = np.random.default_rng(columns).integers(-1, 2, (rows, columns)).astype(np.int8)
    stream = pack_rows(code, lanes)
    assert stream.shape == (rows, -(-columns // lanes), -(-lanes // 5))
    found = unpack_rows(stream, lanes)
    assert (found[:, :columns] == code).all()
    assert not found[:, columns:].any()


def test_column_and_lane_are_where_the_contract_says():
    code = np.zeros((1, 200), np.int8)
    code[0, 64 + 13] = 1  # beat 1, lane 13: byte 2, trit 3
    byte = pack_rows(code, 64)[0, 1, 2]
    assert decode_trits(byte[None])[0].tolist() == [0, 0, 0, 1, 0]

"""ternary: the definition, checked against its formulas, and NumPy against PyTorch to the bit."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unmul import ternary

CODES = hnp.arrays(
    np.int8, st.tuples(st.integers(1, 9), st.integers(1, 300)), elements=st.integers(-1, 1), fill=st.integers(-1, 1)
)
FINITE = st.floats(-(2.0**100), 2.0**100, width=32)
MATRICES = hnp.arrays(np.float32, st.tuples(st.integers(1, 7), st.integers(1, 67)), elements=FINITE)


def spread(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns), np.float32)


@given(CODES)
def test_unpack_inverts_pack(code: np.ndarray) -> None:
    packed = ternary.pack(code)
    assert packed.shape == (code.shape[0], ternary.packed_width(code.shape[1]))
    assert (ternary.unpack(packed, code.shape[1]) == code).all()


@given(CODES)
def test_padding_trits_are_zero_codes(code: np.ndarray) -> None:
    columns = code.shape[1]
    whole = ternary.packed_width(columns) * ternary.TRITS_PER_BYTE
    assert (ternary.unpack(ternary.pack(code), whole)[:, columns:] == 0).all()


def test_byte_is_the_documented_sum() -> None:
    assert ternary.pack(np.array([[-1, -1, -1, -1, -1], [1, 1, 1, 1, 1], [1, 0, -1, 0, 1]], np.int8)).tolist() == [
        [0],
        [242],
        [2 + 3 + 0 + 27 + 162],
    ]
    assert ternary.pack(np.array([[1]], np.int8)).tolist() == [[2 + 3 + 9 + 27 + 81]]


@pytest.mark.parametrize("columns", [1, 4, 5, 6, 63, 64, 65, 255, 256, 257], ids="K{}".format)
def test_every_byte_written_is_below_243(columns: int) -> None:
    code = np.random.default_rng(columns).integers(-1, 2, (11, columns)).astype(np.int8)
    assert ternary.pack(code).max() < 3**ternary.TRITS_PER_BYTE


@given(MATRICES)
def test_scale_is_the_mean_rounded_once_in_numpy_and_torch(weight: np.ndarray) -> None:
    exact = max(float(np.float32(np.abs(weight.astype(np.float64)).mean())), float(np.float32(1e-5)))
    assert float(ternary.scale(weight)) == pytest.approx(exact, rel=2**-23)
    assert ternary.scale(weight).dtype == np.float32
    assert float(ternary.scale(torch.from_numpy(weight))) == float(ternary.scale(weight))


@given(MATRICES)
def test_codes_are_the_same_in_numpy_and_torch(weight: np.ndarray) -> None:
    m = ternary.scale(weight)
    code = ternary.codes(weight, m)
    assert set(np.unique(code)) <= {-1, 0, 1}
    assert (ternary.codes(torch.from_numpy(weight), torch.tensor(m)).numpy() == code).all()


@given(MATRICES)
def test_activations_are_the_same_in_numpy_and_torch(activation: np.ndarray) -> None:
    q, s = ternary.quantise(activation)
    q_torch, s_torch = ternary.quantise(torch.from_numpy(activation))
    assert (q == np.rint(q)).all()
    assert np.abs(q).max() <= 127
    assert (q_torch.numpy() == q).all()
    assert (s_torch.numpy() == s).all()


def test_halves_round_to_even() -> None:
    weight = np.array([[0.5, 1.5, -0.5, -1.5]], np.float32)  # mean 1
    assert ternary.codes(weight, ternary.scale(weight)).tolist() == [[0, 1, 0, -1]]
    q, s = ternary.quantise(np.array([[127, 0.5, 1.5, 2.5, -2.5]], np.float32))
    assert (q.tolist(), s.tolist()) == ([[127, 0, 2, 2, -2]], [[1]])


def test_largest_activation_becomes_127_and_zeros_stay() -> None:
    q, s = ternary.quantise(np.array([[0, -3], [0, 0]], np.float32))
    assert q.tolist() == [[0, -127], [0, 0]]
    assert s[1, 0] == np.float32(127) * (1 / np.float32(1e-5))


def test_activation_scale_is_the_reciprocal_times_127() -> None:
    values = np.random.default_rng(0).uniform(0.1, 10, (1000, 1)).astype(np.float32)
    _, s = ternary.quantise(values)
    assert (s == np.float32(127) * (np.float32(1) / values)).all()
    assert (s != np.float32(127) / values).any()


@pytest.mark.parametrize("size", [0, 1e-9, 4.9e-6, 1, 1e30], ids="size{}".format)
def test_codes_and_scale_of_their_own_product_are_the_same(size: float) -> None:
    weight = np.float32(size) * spread(13, 37)
    m = ternary.scale(weight)
    code = ternary.codes(weight, m)
    fixed = m * code
    again = ternary.final_scale(fixed)
    assert again == m
    assert (ternary.codes(fixed, again) == code).all()


def test_ternarising_twice_shrinks_the_scale_by_the_share_of_non_zeros() -> None:
    weight = spread(64, 64)
    m = ternary.scale(weight)
    code = ternary.codes(weight, m)
    assert float(ternary.scale(m * code)) == pytest.approx(float(m) * np.abs(code).mean(), rel=1e-6)


def test_scale_does_not_depend_on_the_number_of_threads() -> None:
    weight = torch.from_numpy(spread(1024, 1024))
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(float(ternary.scale(weight)))
    torch.set_num_threads(before)
    assert len(set(found)) == 1

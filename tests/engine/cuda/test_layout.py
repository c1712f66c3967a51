"""The layout of weights on a GPU: the NumPy twin against its own words, and pack.cu against the twin."""

from pathlib import Path

import numpy as np
import pytest
from emulated import EmulatedDevice

from unmul import ternary
from unmul.engine.cuda.layout import TILE_BYTES, pack_panels, unpack_panels
from unmul.engine.cuda.structs import Matrix

SHAPES = [(1, 1), (16, 128), (17, 129), (35, 321), (131, 42)]


def random_codes(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(rows).integers(-1, 2, (rows, columns), np.int8)


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_unpacking_returns_what_was_packed(rows: int, columns: int) -> None:
    codes = random_codes(rows, columns)
    words = pack_panels(codes)
    assert words.shape == (-(-rows // 16), -(-columns // 128), TILE_BYTES // 4)
    assert (unpack_panels(words, rows, columns) == codes).all()
    padding = unpack_panels(words, 16 * words.shape[0], 128 * words.shape[1])
    assert np.abs(padding).sum() == np.abs(codes).sum()


def test_a_weight_stands_where_the_page_says() -> None:
    codes = random_codes(35, 321)
    words = pack_panels(codes)
    for row, column in ((0, 0), (9, 5), (20, 300), (34, 320)):
        half, quarter, word, part = column % 128 // 64, column % 64 // 16, column % 16 // 8, column % 8
        lane = row % 8 * 4 + quarter
        found = words[row // 16, column // 128, lane * 4 + half * 2 + word]
        shift = 8 * (part % 4) + 2 * (2 * (part // 4) + row % 16 // 8)
        assert found >> shift & 3 == codes[row, column] + 1


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
@pytest.mark.parametrize(("first", "step"), [(0, 1), (1, 3)])
def test_the_kernel_packs_as_its_twin(rows: int, columns: int, first: int, step: int, tmp_path: Path) -> None:
    codes = random_codes(rows, columns)
    expected = pack_panels(codes)
    found, damaged = packed_by_kernel(tmp_path, ternary.pack(codes), expected, columns, first, step)
    assert (found[first::step][: len(expected)] == expected).all()
    others = np.delete(found, first + step * np.arange(len(expected)), 0)
    assert (others == 0).all()
    assert not damaged


def test_bytes_that_are_no_trits_are_noticed(tmp_path: Path) -> None:
    trits = ternary.pack(random_codes(35, 321))
    trits[34, 64] = 243
    assert packed_by_kernel(tmp_path, trits, pack_panels(random_codes(35, 321)), 321, 0, 1)[1]


def packed_by_kernel(
    folder: Path, trits: np.ndarray, like: np.ndarray, columns: int, first: int, step: int
) -> tuple[np.ndarray, bool]:
    device = EmulatedDevice(folder)
    found, damaged = np.empty((step * len(like), *like.shape[1:]), np.uint32), np.empty(1, np.uint32)
    trits_at, words_at, damaged_at = (device.allocate(size) for size in (trits.nbytes, found.nbytes, 4))
    device.upload(trits_at, trits)
    matrix = Matrix(trits_at, words_at, damaged_at, len(trits), columns, first, step)
    device.kernel("pack.cu", "pack", {})((-(-like.size // 256), 1, 1), 256, 0, matrix)
    device.download(found, words_at)
    device.download(damaged, damaged_at)
    return found, bool(damaged[0])

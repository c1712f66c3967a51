"""The layout of ternary weights on the GPU, in NumPy: the definition that pack.cu is compared with.

Two bits a weight, stored as code + 1. A tile is 512 bytes: 16 rows x 128 columns, 16 bytes for each lane of a warp, in
the order in which mma.m16n8k32 wants its left operand. Lane l owns rows l/4 and l/4 + 8. Its word w holds the columns
64 (w/2) + 16 (l%4) + 8 (w%2) + 0..7: byte j of crumb c (bits 8j + 2c) is the weight of row l/4 + 8 (c%2) and of column
4 (c/2) + j of these. So one mask makes four weights in a register, whose activations are 16 bytes of a row.

A panel is the tiles of 16 rows. Panels whose sums are needed together stand side by side: i, f, g, and gate, up. Rows
are padded to 16 and columns to 128 with the code 0.
"""

# N rows, K columns, P panels, T tiles of a panel

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["TILE_BYTES", "TILE_COLUMNS", "TILE_ROWS", "pack_panels", "padded", "unpack_panels"]

TILE_ROWS, TILE_COLUMNS = 16, 128
TILE_BYTES = TILE_ROWS * TILE_COLUMNS // 4
# row = 8 r + l, column = 128 T + 64 h + 16 q + 8 s + 4 c + j; lane = 4 l + q, word = 2 h + s, crumb = 2 c + r, byte = j
_AS_CODES = "P r l T h q s c j"
_SIZES = {"r": 2, "l": 8, "h": 2, "q": 4, "s": 2, "c": 2, "j": 4}
_AS_WORDS = "P T l q h s j c r"
_CRUMBS = np.array(
    [[[1 << (8 * j + 2 * (2 * c + r)) for r in range(2)] for c in range(2)] for j in range(4)], np.uint32
)


def padded(size: int, multiple: int) -> int:
    """size, rounded up to a multiple."""
    return -(-size // multiple) * multiple


def pack_panels(codes: npt.NDArray[np.int8]) -> npt.NDArray[np.uint32]:
    """Codes [N, K] in {-1, 0, 1} -> words [P, T, 128]."""
    rows, columns = (padded(size, unit) for size, unit in zip(codes.shape, (TILE_ROWS, TILE_COLUMNS), strict=True))
    whole = np.zeros((rows, columns), np.int8)
    whole[: codes.shape[0], : codes.shape[1]] = codes
    crumbs = (whole + 1).astype(np.uint32).reshape(_shape(_AS_CODES, rows, columns))
    words = (crumbs.transpose(_order(_AS_CODES, _AS_WORDS)) * _CRUMBS).sum((-3, -2, -1), dtype=np.uint32)
    return words.reshape(rows // TILE_ROWS, columns // TILE_COLUMNS, TILE_BYTES // 4)


def unpack_panels(words: npt.NDArray[np.uint32], rows: int, columns: int) -> npt.NDArray[np.int8]:
    """The inverse of pack_panels, padding left out."""
    panels, tiles, _ = words.shape
    spread = words.reshape(panels, tiles, 8, 4, 2, 2, 1, 1, 1) // _CRUMBS % 4
    codes = spread.astype(np.int8).transpose(_order(_AS_WORDS, _AS_CODES)) - 1
    return codes.reshape(panels * TILE_ROWS, tiles * TILE_COLUMNS)[:rows, :columns]


def _shape(axes: str, rows: int, columns: int) -> list[int]:
    sizes = _SIZES | {"P": rows // TILE_ROWS, "T": columns // TILE_COLUMNS}
    return [sizes[axis] for axis in axes.split()]


def _order(before: str, after: str) -> list[int]:
    return [before.split().index(axis) for axis in after.split()]

"""Five trits a byte as the hardware reads them: a 3-bit pair and a 5-bit triple, the ninth pair folded away.

A byte holds pair + 8 * triple, where pair = (c0+1) + 3 (c1+1) is 0..8 and triple = (c2+1) + 3 (c3+1) + 9 (c4+1) is
0..26. Pair 8 has no room in three bits: it takes the triple codes 27..30, with triple = 8 * (code - 27) + low bits.
So a decoder is a few small tables, where the checkpoint's base-3 byte would be one of 243 cases.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unmul.ternary import TRITS_PER_BYTE

__all__ = ["ESCAPE", "decode_trits", "encode_trits", "pack_rows", "unpack_rows"]

# N rows, K columns, B beats of a row

ESCAPE = 27  # triple codes from here on mean pair 8


def encode_trits(code: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Codes [..., 5] in {-1, 0, 1} -> bytes [...]."""
    d = np.moveaxis((code + 1).astype(np.uint8), -1, 0)
    pair, triple = d[0] + 3 * d[1], d[2] + 3 * d[3] + 9 * d[4]
    return np.where(pair < 8, pair + 8 * triple, triple % 8 + 8 * (ESCAPE + triple // 8))


def decode_trits(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """Bytes [...] -> codes [..., 5]; the 13 bytes that encode nothing decode to something."""
    low, code = packed.astype(np.int64) & 7, packed.astype(np.int64) >> 3
    escaped = code >= ESCAPE
    pair = np.where(escaped, 8, low)
    triple = np.where(escaped, 8 * ((code - ESCAPE) % 4) + low, code)
    digits = [pair % 3, pair // 3, triple % 3, triple // 3 % 3, triple // 9 % 3]
    return (np.stack(digits, -1) - 1).astype(np.int8)


_TRITS = decode_trits(np.arange(256, dtype=np.uint8))


def pack_rows(code: npt.NDArray[np.int8], lanes: int) -> npt.NDArray[np.uint8]:
    """Codes [N, K] -> the stream's bytes [N, B, ceil(lanes/5)]: a row is whole beats, filled up with zero codes.

    Column b * lanes + l is lane l of beat b, trit l % 5 of byte l // 5.
    """
    rows, columns = code.shape
    beats = -(-columns // lanes)
    width = -(-lanes // TRITS_PER_BYTE) * TRITS_PER_BYTE
    beat = np.zeros((rows, beats * lanes), np.int8)
    beat[:, :columns] = code
    padded = np.zeros((rows, beats, width), np.int8)
    padded[..., :lanes] = beat.reshape(rows, beats, lanes)
    return encode_trits(padded.reshape(rows, beats, -1, TRITS_PER_BYTE))


def unpack_rows(stream: npt.NDArray[np.uint8], lanes: int) -> npt.NDArray[np.int8]:
    """Bytes [N, B, ceil(lanes/5)] -> codes [N, B * lanes]; the inverse of pack_rows up to the filling."""
    rows, beats, _ = stream.shape
    return _TRITS[stream].reshape(rows, beats, -1)[..., :lanes].reshape(rows, beats * lanes)

"""Five trits a byte as the hardware reads them: a 3-bit pair and a 5-bit triple, the ninth pair folded away.

A byte holds pair + 8 * triple, where pair = (c0+1) + 3 (c1+1) is 0..8 and triple = (c2+1) + 3 (c3+1) + 9 (c4+1) is
0..26. Pair 8 has no room in three bits: it takes the triple codes 27..30, with triple = 8 * (code - 27) + low bits.
So a decoder is a few small tables, where the checkpoint's base-3 byte would be one of 243 cases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from unmul.ternary import TRITS_PER_BYTE

__all__ = ["TRIT", "TritDecoder", "decode_trits", "encode_trits"]

ESCAPE = 27  # triple codes from here on mean pair 8

TRIT = data.StructLayout({"nonzero": 1, "negative": 1})


def encode_trits(code: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Codes [..., 5] in {-1, 0, 1} -> bytes [...]."""
    digits = code.astype(np.int64) + 1
    pair = digits[..., :2] @ [1, 3]
    triple = digits[..., 2:] @ [1, 3, 9]
    usual, escaped = pair + 8 * triple, triple % 8 + 8 * (ESCAPE + triple // 8)
    return np.where(pair < 8, usual, escaped).astype(np.uint8)


def decode_trits(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """Bytes [...] -> codes [..., 5]: the twin of TritDecoder; the 13 bytes that encode nothing decode to something."""
    low, code = packed.astype(np.int64) & 7, packed.astype(np.int64) >> 3
    escaped = code >= ESCAPE
    pair = np.where(escaped, 8, low)
    triple = np.where(escaped, 8 * ((code - ESCAPE) % 4) + low, code)
    digits = [pair % 3, pair // 3, triple % 3, triple // 3 % 3, triple // 9 % 3]
    return (np.stack(digits, -1) - 1).astype(np.int8)


class TritDecoder(wiring.Component):
    """One byte to five trits, combinational: 6 to 8 LUT4 a trit.

    Members: packed, a byte; trits, five TRIT structures, the first code first. A zero trit is never negative.
    """

    def __init__(self) -> None:
        super().__init__({"packed": In(8), "trits": Out(data.ArrayLayout(TRIT, TRITS_PER_BYTE))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        low, code = self.packed[:3], self.packed[3:]
        escaped = _table(code, lambda number: number >= ESCAPE)
        high = Cat(_table(code, lambda number, bit=bit: (number - ESCAPE) >> bit & 1) for bit in range(2))
        pair, triple = Signal(4), Signal(5)
        m.d.comb += [pair.eq(Mux(escaped, 8, low)), triple.eq(Mux(escaped, Cat(low, high), code))]
        for position, trit in enumerate(self.trits):
            index, unit = (pair, 3**position) if position < 2 else (triple, 3 ** (position - 2))
            m.d.comb += [
                trit.nonzero.eq(_table(index, lambda number, unit=unit: number // unit % 3 != 1)),
                trit.negative.eq(_table(index, lambda number, unit=unit: number // unit % 3 == 0)),
            ]
        return m


def _table(index: Value, holds: Callable[..., Any]) -> Value:
    """A bit for each value of index, as a table: yosys makes one look-up of it, where arithmetic would be a carry chain."""
    bits = sum(1 << number for number in range(1 << len(index)) if holds(number))
    return Const(bits, 1 << len(index)).bit_select(index, 1)

"""The decoder of the weight code: one byte to five trits. Its twin is weight_code.decode_trits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.weight_code import ESCAPE
from unmul.ternary import TRITS_PER_BYTE

__all__ = ["TRIT", "TritDecoder"]

TRIT = data.StructLayout({"nonzero": 1, "negative": 1})


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
    """A bit for each value of index, as a table: a few LUTs, where arithmetic would be a carry chain."""
    bits = sum(1 << number for number in range(1 << len(index)) if holds(number))
    return Const(bits, 1 << len(index)).bit_select(index, 1)

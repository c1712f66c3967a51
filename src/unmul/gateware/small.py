"""Small floats in gateware: multiply, add and rsqrt of operands that hold still. Twins: the functions of scalar.py.

Every function adds registers on the way, and the result is right from its latency on; nothing travels beside it.
"""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.memory import BlockRam
from unmul.gateware.pipeline import delay, register
from unmul.gateware.scalar import MANTISSA_BITS, RSQRT_DELTAS, RSQRT_VALUES

__all__ = ["ADD_LATENCY", "MULTIPLY_LATENCY", "RSQRT_LATENCY", "Normaliser", "Small", "add", "multiply", "rsqrt"]

MULTIPLY_LATENCY = 2
ADD_LATENCY = 3
RSQRT_LATENCY = 5


class Small(NamedTuple):
    """A small float as two values."""

    mantissa: Value
    exponent: Value

    @classmethod
    def of(cls, view: data.View) -> Small:
        """The parts of a SCALAR structure."""
        return cls(view.mantissa, view.exponent)


def multiply(m: Module, x: Small, y: Small) -> Small:
    """x * y; MULTIPLY_LATENCY."""
    wide = register(m, x.mantissa * y.mantissa)
    exponent = register(m, x.exponent + y.exponent)
    high = wide[-1]
    mantissa = Mux(high, wide[MANTISSA_BITS:], wide[MANTISSA_BITS - 1 :])[:MANTISSA_BITS]
    return _clean(m, mantissa, exponent + MANTISSA_BITS - 1 + high)


def add(m: Module, x: Small, y: Small) -> Small:
    """x + y; ADD_LATENCY."""
    swap = (x.mantissa == 0) | (y.mantissa.any() & (y.exponent > x.exponent))
    large = Small(*(register(m, Mux(swap, theirs, own)) for own, theirs in zip(x, y, strict=True)))
    small = Small(*(register(m, Mux(swap, own, theirs)) for own, theirs in zip(x, y, strict=True)))
    apart = (large.exponent - small.exponent)[:-1]  # of no matter if negative, for then small is 0
    cut = register(m, Mux(apart[4:].any(), 0, small.mantissa >> apart[:4]))
    total = large.mantissa + cut
    carry = total[MANTISSA_BITS]
    return _clean(m, Mux(carry, total >> 1, total)[:MANTISSA_BITS], large.exponent + carry)


def rsqrt(m: Module, x: Small) -> Small:
    """1 / sqrt(x) from the table in one block RAM; RSQRT_LATENCY."""
    table = [int(value) | int(delta) << 16 for value, delta in zip(RSQRT_VALUES, RSQRT_DELTAS, strict=True)]
    m.submodules.rsqrt = rom = BlockRam(16 + 7, len(table), init=table)
    odd = x.exponent[0]
    m.d.comb += rom.read_address.eq(Cat(x.mantissa[7:15], odd))
    found = delay(m, rom.read_data, 2)  # one register is the RAM's own, the other stands beside the multiplier
    value, delta = found[:16], found[16:]
    cut = (register(m, delta * x.mantissa[:7]) + 64) >> 7
    return Small(register(m, (value - cut)[:MANTISSA_BITS]), register(m, -(x.exponent >> 1) - 23 - odd))


class Normaliser(wiring.Component):
    """Shifts a number up until its top bit is set, by eight places or one a cycle.

    Members: start, value; done (still true until the next start), shifted, and length, the bit length of value.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        super().__init__(
            {
                "start": In(1),
                "value": In(width),
                "done": Out(1),
                "shifted": Out(width),
                "length": Out(range(width + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fresh, zero = Signal(), Signal(init=1)
        m.d.comb += self.done.eq(~fresh & (self.shifted[-1] | zero))
        with m.If(self.start):
            m.d.sync += [self.shifted.eq(self.value), fresh.eq(1)]
        with m.Elif(fresh):
            some = self.shifted.any()
            m.d.sync += [fresh.eq(0), zero.eq(~some), self.length.eq(Mux(some, self._width, 0))]
        with m.Elif(~self.done):
            far = ~self.shifted[-8:].any()
            m.d.sync += [
                self.shifted.eq(Mux(far, self.shifted << 8, self.shifted << 1)),
                self.length.eq(self.length - Mux(far, 8, 1)),
            ]
        return m


def _clean(m: Module, mantissa: Value, exponent: Value) -> Small:
    """Zero has one form."""
    return Small(register(m, mantissa), register(m, Mux(mantissa.any(), exponent, 0)))

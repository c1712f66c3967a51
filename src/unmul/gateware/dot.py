"""The ternary dot unit: lanes x (int8 x trit) summed by a registered tree into a 32-bit accumulator, no multiplier.

A lane gives (a AND nonzero) XOR negative, the one's complement where the trit is -1; the missing +1 rides on the carry
input of an adder. A tree of N terms has N - 1 adders and the accumulator is the N-th: each takes one lane's +1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.trit import TRIT

__all__ = ["DotUnit", "dot"]

ACCUMULATOR = signed(32)


def dot(q: npt.NDArray[np.int8], codes: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    """Activations [..., K] and codes [..., K] -> sums [...]: the twin of DotUnit, exact in 32 bits."""
    return (q.astype(np.int32) * codes).sum(-1, dtype=np.int32)


class DotUnit(wiring.Component):
    """One beat of `lanes` products a cycle, a sum per row of beats, `latency` cycles after the row's last beat.

    Members: valid marks a beat of q (int8) and trits, first and last its place in the row; done marks the cycle in
    which sum (int32) holds a row's total. There is no back-pressure: whoever reads must be ready.
    """

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.latency = (lanes - 1).bit_length() + 1
        super().__init__(
            {
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "q": In(data.ArrayLayout(signed(8), lanes)),
                "trits": In(data.ArrayLayout(TRIT, lanes)),
                "sum": Out(ACCUMULATOR),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        terms = [self._term(lane) for lane in range(self.lanes)]
        carries = [self.trits[lane].negative for lane in range(self.lanes)]
        marks = Cat(self.valid, self.first, self.last)
        while len(terms) > 1:
            terms, carries = _level(m, terms, carries)
            marks = _register(m, marks)
        self._accumulate(m, terms[0], carries[0], marks)
        return m

    def _term(self, lane: int) -> Value:
        trit = self.trits[lane]
        return ((self.q[lane].as_unsigned() & trit.nonzero.replicate(8)) ^ trit.negative.replicate(8)).as_signed()

    def _accumulate(self, m: Module, term: Value, carry: Value, marks: Value) -> None:
        valid, first, last = marks
        kept = Signal(ACCUMULATOR)
        m.d.comb += kept.eq(self.sum & (~first).replicate(32))
        m.d.sync += self.done.eq(valid & last)
        with m.If(valid):
            m.d.sync += self.sum.eq(_add(kept, term, carry))


def _level(m: Module, terms: list[Value], carries: list[Value]) -> tuple[list[Value], list[Value]]:
    """Add neighbours, each pair with one of the carries; the rest of both goes on, one register later."""
    pairs = len(terms) // 2
    added = [_add(terms[2 * pair], terms[2 * pair + 1], carries[pair]) for pair in range(pairs)]
    rest = [*added, *terms[2 * pairs :]]
    return [_register(m, term) for term in rest], [_register(m, carry) for carry in carries[pairs:]]


def _register(m: Module, value: Value) -> Signal:
    register = Signal(value.shape(), reset_less=True)
    m.d.sync += register.eq(value)
    return register


def _add(x: Value, y: Value, carry: Value) -> Value:
    """x + y + carry on one carry chain."""
    return ((Cat(Const(1, 1), x).as_signed() + Cat(carry, y).as_signed()) >> 1).as_signed()

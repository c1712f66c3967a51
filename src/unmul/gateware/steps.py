"""The counter that walks a unit over the elements of a vector, or over the rows of a matrix."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Steps"]


class Steps(wiring.Component):
    """index runs from 0 to count - 1, one step in each active cycle that has `step`, from the cycle after `start`.

    Members: start, step, count (still meanwhile, at least 1); active, index, last (index is count - 1).
    """

    def __init__(self, width: int = 16) -> None:
        ports = {"start": In(1), "step": In(1, init=1), "count": In(width)}
        super().__init__({**ports, "active": Out(1), "index": Out(width), "last": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left = Signal.like(self.count)  # steps behind this one; `last` is a register, for much hangs on it
        following = Mux(self.start, self.count, left) - 1
        with m.If(self.active & self.step):
            m.d.sync += [self.index.eq(self.index + 1), self.active.eq(~self.last)]
        with m.If(self.start):
            m.d.sync += [self.index.eq(0), self.active.eq(1)]
        with m.If(self.start | (self.active & self.step)):
            m.d.sync += [left.eq(following), self.last.eq(Mux(self.start, self.count, left) == 1)]
        return m

"""A serial line: 8 data bits, the lowest first, no parity, one stop bit."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UartReceiver", "UartSender"]

BITS = 10  # with start and stop


class UartReceiver(wiring.Component):
    """Members: line; byte with valid, one cycle; broken, one cycle, the line was low where it must stop: a break."""

    def __init__(self, divisor: int) -> None:
        self._divisor = divisor  # cycles a bit
        super().__init__({"line": In(1, init=1), "byte": Out(8), "valid": Out(1), "broken": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line, before, left = Signal(init=1), Signal(init=1), Signal(range(BITS + 1))
        wait, idle = Signal(range(self._divisor)), Signal()
        m.submodules.synchronizer = FFSynchronizer(self.line, line, init=1)
        m.d.comb += idle.eq(~left.any())
        m.d.sync += before.eq(line)
        with m.If(idle & before & ~line):
            m.d.sync += [left.eq(BITS), wait.eq(self._divisor // 2 - 1)]
        with m.Elif(wait.any()):
            m.d.sync += wait.eq(wait - 1)
        with m.Elif(left > 1):
            m.d.sync += [left.eq(left - 1), wait.eq(self._divisor - 1), self.byte.eq(Cat(self.byte[1:], line))]
        with m.Elif(~idle):
            m.d.sync += left.eq(0)
            m.d.comb += [self.valid.eq(line), self.broken.eq(~line)]
        return m


class UartSender(wiring.Component):
    """Members: bytes, a stream; line."""

    def __init__(self, divisor: int) -> None:
        self._divisor = divisor  # cycles a bit
        super().__init__({"bytes": In(stream.Signature(8)), "line": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left, wait = Signal(range(BITS + 1)), Signal(range(self._divisor))
        bits = Signal(BITS, init=-1)
        m.d.comb += [self.bytes.ready.eq(~left.any()), self.line.eq(bits[0])]
        with m.If(self.bytes.ready & self.bytes.valid):
            framed = Cat(Const(0, 1), self.bytes.payload, Const(1, 1))
            m.d.sync += [bits.eq(framed), left.eq(BITS), wait.eq(self._divisor - 1)]
        with m.Elif(wait.any()):
            m.d.sync += wait.eq(wait - 1)
        with m.Elif(left.any()):
            m.d.sync += [bits.eq(Cat(bits[1:], 1)), left.eq(left - 1), wait.eq(self._divisor - 1)]
        return m

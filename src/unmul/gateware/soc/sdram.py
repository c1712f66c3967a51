"""A controller of single-data-rate SDRAM: one page open, one word a cycle from it, a refresh whenever one is due.

A page holds 512 words, so what a change of page costs (seven cycles at 100 MHz) vanishes in sequential reading, which
is all that the weight stream does. Tested on a behavioural model of the part, sim/sdram.h, that checks its times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.fetch import Skid
from unmul.gateware.soc.port import MemoryPort, memory_request

__all__ = ["Sdram", "SdramPart", "SdramPins"]

# Commands as bits (ras, cas, we), the first one lowest.
IDLE, ACTIVATE, READ, WRITE, PRECHARGE, REFRESH, MODE = 0b000, 0b001, 0b010, 0b110, 0b101, 0b011, 0b111
ALL_BANKS = 1 << 10  # in the address of a precharge
FIRST_REFRESHES = 8
PAD_CYCLES = 2  # a register at the pin on the way out, one on the way in


@dataclass(frozen=True, kw_only=True, slots=True)
class SdramPart:
    """A part in nanoseconds: the slowest of MT48LC16M16A2-75, IS42S16160G-7 and W9825G6KH-6, which boards carry."""

    bank_bits: int = 2
    row_bits: int = 13
    column_bits: int = 9
    width: int = 16
    cas_latency: int = 3  # cycles
    mode_cycles: int = 2
    power_up: float = 200_000
    refresh_interval: float = 64e6 / 8192
    refresh: float = 68
    precharge: float = 20
    activate: float = 20  # until a column command
    active: float = 46  # until a precharge
    write_recovery: float = 15


class SdramPins(wiring.Signature):
    """What drives a part, high when active, as the controller's own member; clock and chip select are always on."""

    def __init__(self, part: SdramPart) -> None:
        outputs = {"ras": 1, "cas": 1, "we": 1, "ba": part.bank_bits, "a": part.row_bits, "dq_o": part.width}
        members = {name: Out(width) for name, width in outputs.items()}
        super().__init__({**members, "dq_oe": Out(1), "dq_i": In(part.width)})


class Sdram(wiring.Component):
    """Members: memory, the port; pins, which expect a register at each pad, both ways."""

    def __init__(self, part: SdramPart, clock_mhz: float) -> None:
        self._part, self._clock_mhz = part, clock_mhz
        super().__init__({"memory": In(MemoryPort(part.width)), "pins": Out(SdramPins(part))})
        self._wait = Signal(range(self._cycles(part.power_up) + 1), init=self._cycles(part.power_up))
        self._open, self._page = Signal(), Signal(part.bank_bits + part.row_bits)
        self._hold = Signal(range(self._cycles(part.active) + 1))  # cycles until a precharge may come
        self._due = Signal()  # a refresh
        self._reading = Signal(part.cas_latency + PAD_CYCLES + 1)  # reads on their way, the oldest at the top

    def elaborate(self, platform: object) -> Module:
        m = Module()
        layout = memory_request(self._part.width)
        m.submodules.entry = entry = Skid(layout.size)
        entering, started = self.memory.requests, Signal()
        m.d.comb += [
            entry.enters.payload.eq(entering.payload),
            entry.enters.valid.eq(entering.valid),
            entering.ready.eq(entry.enters.ready),
            self.memory.data.eq(self.pins.dq_i),
            self.memory.data_valid.eq(self._reading[-1]),
        ]
        m.d.sync += [
            self._reading.eq(self._reading << 1),
            self._hold.eq(Mux(self._hold.any(), self._hold - 1, 0)),
            self.pins.dq_oe.eq(0),
        ]
        self._command(m, IDLE)
        self._time_refresh(m)
        with m.If(self._wait.any()):
            m.d.sync += self._wait.eq(self._wait - 1)
        with m.Elif(~started):
            self._start(m, started)
        with m.Else():
            self._run(m, data.View(layout, entry.leaves.payload), entry.leaves.valid, entry.leaves.ready)
        return m

    def _cycles(self, nanoseconds: float) -> int:
        return math.ceil(nanoseconds * self._clock_mhz / 1000 - 1e-9)

    def _command(self, m: Module, command: int, *, cycles: int = 1, **address: Value | int) -> None:
        """Give a command, with ba and a; the next one comes so many cycles later."""
        pins = self.pins
        m.d.sync += Cat(pins.ras, pins.cas, pins.we).eq(command)
        m.d.sync += [getattr(pins, name).eq(value) for name, value in address.items()]
        if cycles > 1:
            m.d.sync += self._wait.eq(cycles - 1)

    def _time_refresh(self, m: Module) -> None:
        interval = math.floor(self._part.refresh_interval * self._clock_mhz / 1000)
        left = Signal(range(interval))
        m.d.sync += left.eq(Mux(left.any(), left - 1, interval - 1))
        with m.If(~left.any()):
            m.d.sync += self._due.eq(1)

    def _start(self, m: Module, started: Signal) -> None:
        """After power-up: close all banks, refresh, then bursts of one word at the part's latency."""
        part, step = self._part, Signal(range(FIRST_REFRESHES + 2))
        m.d.sync += step.eq(step + 1)
        with m.Switch(step):
            with m.Case(0):
                self._command(m, PRECHARGE, a=ALL_BANKS, cycles=self._cycles(part.precharge))
            with m.Case(FIRST_REFRESHES + 1):
                self._command(m, MODE, a=part.cas_latency << 4, ba=0, cycles=part.mode_cycles)
                m.d.sync += started.eq(1)
            with m.Default():
                self._command(m, REFRESH, cycles=self._cycles(part.refresh))

    def _run(self, m: Module, request: data.View, wanted: Value, taken: Signal) -> None:
        """Refresh when due, else serve the request at hand; either may have to close the open page first."""
        page = request.address[self._part.column_bits :][: len(self._page)]
        moves = wanted & ~(self._open & (page == self._page))
        with m.If(self._open & (self._due | moves)):
            self._close(m)
        with m.Elif(self._due):
            self._command(m, REFRESH, cycles=self._cycles(self._part.refresh))
            m.d.sync += self._due.eq(0)
        with m.Elif(moves):
            self._activate(m, page)
        with m.Elif(wanted & ~(request.write & self._reading.any())):  # the part must have left the data pins
            m.d.comb += taken.eq(1)
            self._access(m, request)

    def _close(self, m: Module) -> None:
        with m.If(~self._hold.any()):
            self._command(m, PRECHARGE, a=ALL_BANKS, cycles=self._cycles(self._part.precharge))
            m.d.sync += self._open.eq(0)

    def _activate(self, m: Module, page: Value) -> None:
        part = self._part
        bank, row = page[: part.bank_bits], page[part.bank_bits :]
        self._command(m, ACTIVATE, ba=bank, a=row, cycles=self._cycles(part.activate))
        m.d.sync += [self._open.eq(1), self._page.eq(page), self._hold.eq(self._cycles(part.active) - 1)]

    def _access(self, m: Module, request: data.View) -> None:
        held = self._cycles(self._part.write_recovery) - 1
        column = request.address[: self._part.column_bits]
        with m.If(request.write):
            self._command(m, WRITE, a=column)
            m.d.sync += [self.pins.dq_o.eq(request.data), self.pins.dq_oe.eq(1)]
            with m.If(self._hold <= held):
                m.d.sync += self._hold.eq(held)
        with m.Else():
            self._command(m, READ, a=column)
            m.d.sync += self._reading[0].eq(1)

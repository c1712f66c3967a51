"""ULX3S: an ECP5 with 32 MiB of SDRAM, a crystal of 25 MHz, and a serial line over USB."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Instance, Module, Signal
from amaranth.lib import io, wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In, Out

from unmul.gateware.parameters import Parameters
from unmul.gateware.soc.sdram import Sdram, SdramPart, SdramPins
from unmul.gateware.soc.system import System

__all__ = ["CRYSTAL_MHZ", "SDRAM_PHASE", "Ulx3s", "Ulx3sTop"]

PART = SdramPart()
CRYSTAL_MHZ = 25
SDRAM_PHASE = 270  # degrees by which the part's clock is late: docs/rtl.md says why


class Ulx3s(wiring.Component):
    """Everything between the pads, on whatever clock: what is simulated, too. Members: rx, tx; pins, of the SDRAM."""

    def __init__(self, parameters: Parameters, divisor: int) -> None:
        self._parameters, self._divisor = parameters, divisor
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "pins": Out(SdramPins(PART))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.system = system = System(self._parameters, self._divisor)
        m.submodules.sdram = sdram = Sdram(PART, self._parameters.clock_mhz)
        wiring.connect(m, system.memory, sdram.memory)
        wiring.connect(m, wiring.flipped(self.pins), sdram.pins)
        m.d.comb += [system.rx.eq(self.rx), self.tx.eq(system.tx)]
        m.d.comb += [system.control.requests.ready.eq(1), system.control.data_valid.eq(1)]  # it has no registers
        return m


class Ulx3sTop(Elaboratable):
    """Ulx3s between the board's pins and its clock, which a module `pll` makes of the crystal's: clko of the core,
    and `shifted`, of the SDRAM; see designs.py.
    """

    def __init__(self, parameters: Parameters, divisor: int) -> None:
        self._board = Ulx3s(parameters, divisor)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.board = board = self._board
        self._clock(m, platform.request("clk25", dir="-"))
        uart = platform.request("uart", dir={name: "-" for name in ("rx", "tx", "rts", "dtr")})
        m.submodules.rx, m.submodules.tx = rx, tx = io.Buffer("i", uart.rx), io.Buffer("o", uart.tx)
        m.d.comb += [board.rx.eq(rx.i), tx.o.eq(board.tx)]
        self._sdram(m, platform.request("sdram", dir="-"))
        self._hold_esp32(m, platform.request("esp32", dir="-"))
        return m

    def _clock(self, m: Module, crystal: io.PortLike) -> None:
        m.submodules.crystal = buffer = io.Buffer("i", crystal)
        m.domains.sync, m.domains.shifted = ClockDomain("sync"), ClockDomain("shifted", reset_less=True)
        locked, clocks = Signal(), {"o_clko": ClockSignal("sync"), "o_shifted": ClockSignal("shifted")}
        m.submodules.pll = Instance("pll", i_clki=buffer.i, o_locked=locked, **clocks)
        m.submodules.reset = ResetSynchronizer(~locked, domain="sync")

    def _sdram(self, m: Module, ports: Any) -> None:
        """A register at every pin, so that all have the same delay; the part's clock leaves through one, too."""
        pins = self._board.pins
        m.submodules.clk = clock = io.DDRBuffer("o", ports.clk, o_domain="shifted")
        m.d.comb += [clock.o[0].eq(1), clock.o[1].eq(0)]
        for name in ("ras", "cas", "we", "ba", "a"):
            m.submodules[name] = buffer = io.FFBuffer("o", getattr(ports, name))
            m.d.comb += buffer.o.eq(getattr(pins, name))
        m.submodules.dq = data = io.FFBuffer("io", ports.dq)
        m.d.comb += [data.o.eq(pins.dq_o), data.oe.eq(pins.dq_oe), pins.dq_i.eq(data.i)]
        for name, level in (("cs", 1), ("clk_en", 1), ("dqm", 0)):
            m.submodules[name] = constant = io.Buffer("o", getattr(ports, name))
            m.d.comb += constant.o.eq(level)

    def _hold_esp32(self, m: Module, ports: Any) -> None:
        """High keeps the board's other processor from configuring the FPGA anew."""
        m.submodules.esp32 = boot = io.Buffer("o", ports.gpio0)
        m.d.comb += boot.o.eq(1)

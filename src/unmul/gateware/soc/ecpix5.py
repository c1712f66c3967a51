"""ECPIX-5: an ECP5 with 512 MiB of DDR3, a crystal of 100 MHz, and a serial line over USB."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Instance, Module, ResetSignal
from amaranth.lib import io, wiring

from unmul.gateware.litedram import MODULE
from unmul.gateware.parameters import Parameters
from unmul.gateware.soc.litedram import LiteDram
from unmul.gateware.soc.system import System

__all__ = ["Ecpix5Top"]

# The board's names of pins and LiteDRAM's; the part's chip select and reset are not wired to the FPGA.
OUTPUTS = {
    "clk_en": "cke",
    "we": "we_n",
    "ras": "ras_n",
    "cas": "cas_n",
    "a": "a",
    "ba": "ba",
    "dm": "dm",
    "odt": "odt",
}


class Ecpix5Top(Elaboratable):
    """Core, host and LiteDRAM between the board's pins; LiteDRAM makes their clock, too, of the crystal's."""

    def __init__(self, parameters: Parameters, divisor: int) -> None:
        self._parameters, self._divisor = parameters, divisor

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.domains.sync = ClockDomain("sync")
        m.submodules.system = system = System(self._parameters, self._divisor)
        m.submodules.ports = ports = LiteDram()
        wiring.connect(m, system.memory, ports.memory)
        wiring.connect(m, system.control, ports.control)
        m.submodules.litedram = Instance(
            MODULE, *self._clock(platform), *self._pads(platform), *_native(ports.native), *_wishbone(ports.wishbone)
        )
        uart = platform.request("uart", dir={name: "-" for name in ("rx", "tx")})
        m.submodules.rx, m.submodules.tx = rx, tx = io.Buffer("i", uart.rx), io.Buffer("o", uart.tx)
        m.d.comb += [system.rx.eq(rx.i), tx.o.eq(system.tx)]
        return m

    def _clock(self, platform: Any) -> list[tuple[str, str, Any]]:
        """The crystal, and what LiteDRAM makes of it; its power-on reset is the only one."""
        crystal = platform.request("clk100", dir="-")
        made = [("o", "user_clk", ClockSignal("sync")), ("o", "user_rst", ResetSignal("sync"))]
        return [("i", "clk", crystal.io), ("i", "rst", Const(0)), *made]

    def _pads(self, platform: Any) -> list[tuple[str, str, Any]]:
        """The part's pins, which LiteDRAM's own cells drive; the second of a pair follows the first."""
        pins = platform.request("ddr3", dir="-")
        outputs = [("o", f"ddram_{name}", getattr(pins, ours).io) for ours, name in OUTPUTS.items()]
        pairs = [("o", "ddram_clk_p", pins.clk.p), ("io", "ddram_dqs_p", pins.dqs.p)]
        return [*outputs, *pairs, ("io", "ddram_dq", pins.dq.io)]


def _native(port: Any) -> list[tuple[str, str, Any]]:
    outputs = [("o", name, getattr(port, name)) for name in ("cmd_ready", "wdata_ready", "rdata_valid", "rdata_data")]
    inputs = [("i", name, getattr(port, name)) for name in ("cmd_valid", "cmd_we", "wdata_valid", "wdata_data")]
    always = [("i", "wdata_we", Const(-1, 16)), ("i", "rdata_ready", Const(1))]
    address = ("i", "cmd_addr", port.cmd_addr[:25])
    return [(way, f"user_port_0_{name}", value) for way, name, value in (*outputs, *inputs, *always, address)]


def _wishbone(port: Any) -> list[tuple[str, str, Any]]:
    outputs = [("o", name, getattr(port, name)) for name in ("dat_r", "ack")]
    inputs = [("i", name, getattr(port, name)) for name in ("cyc", "stb", "we", "adr", "dat_w")]
    always = [("i", "sel", Const(-1, 4)), ("i", "cti", Const(0, 3)), ("i", "bte", Const(0, 2))]
    return [(way, f"wb_ctrl_{name}", value) for way, name, value in (*outputs, *inputs, *always)]

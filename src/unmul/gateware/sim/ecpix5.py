"""ECPIX-5 in Verilator: all between its pins, LiteDRAM included, with models of the FPGA's cells and of the DDR3."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from unmul.gateware import litedram
from unmul.gateware.parameters import Parameters
from unmul.gateware.sim.board import DIVISOR, SimulatedBoard
from unmul.gateware.sim.library import SIM, simulated_library
from unmul.gateware.sim.verilator import VERILATOR_PINS

__all__ = ["SimulatedEcpix5"]

CELLS = SIM / "ecp5.v"
# Widths of the pins that the top level asks a platform for.
PINS: dict[str, Any] = {
    "clk100": 1,
    "uart": {"rx": 1, "tx": 1},
    "ddr3": {
        "clk": 1, "clk_en": 1, "we": 1, "ras": 1, "cas": 1, "a": 15, "ba": 3, "dqs": 2, "dq": 16, "dm": 2, "odt": 1,
    },
}  # fmt: skip
PAIRS = ("ddr3_clk", "ddr3_dqs")  # of which the first pin is simulated


class SimulatedEcpix5(SimulatedBoard):
    """A line for host.Board. Bytes of the DDR3 answer so many half cycles of its clock late; 8 is never.

    Members: settings, for ddr3.start_ddr3, and those of SimulatedBoard.

    Raises:
        GatewareError: there is no C++ compiler, or it or Verilator fails.
        MissingExtraError: Verilator, Amaranth or LiteDRAM is not installed.
    """

    settings: litedram.Ddr3Settings

    def __init__(self, parameters: Parameters, delays: Sequence[int] = (1, 2)) -> None:
        super().__init__(parameters)
        for byte, delay in enumerate(delays):
            self._library.board_delay(self._handle, byte, delay)

    def _build(self, parameters: Parameters) -> ctypes.CDLL:
        with tempfile.TemporaryDirectory() as temporary:
            self.settings, _ = litedram.generate(parameters.clock_mhz, Path(temporary))
            memory = (Path(temporary) / litedram.VERILOG).read_text()
        text = "\n".join([_top_verilog(parameters), memory, CELLS.read_text()])
        library = simulated_library(text, SIM / "ecpix5.cpp", VERILATOR_PINS)
        library.board_delay.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        library.board_delay.restype = None
        return library


def _top_verilog(parameters: Parameters) -> str:
    from amaranth.back import verilog

    from unmul.gateware.soc.ecpix5 import Ecpix5Top
    from unmul.gateware.verilog import TOP

    pins = _Pins()
    text: str = verilog.convert(
        Ecpix5Top(parameters, DIVISOR), name=TOP, platform=pins, ports=pins.ports, emit_src=False
    )
    return text


class _Pins:
    """In place of the board's platform: its pins as ports of the module. Members: ports."""

    def __init__(self) -> None:
        self.ports: list[Any] = []

    def request(self, name: str, **_: object) -> Any:
        pins = PINS[name]
        if isinstance(pins, int):
            return self._port(name, pins)
        return SimpleNamespace(**{pin: self._port(f"{name}_{pin}", width) for pin, width in pins.items()})

    def _port(self, name: str, width: int) -> Any:
        from amaranth.hdl import IOPort
        from amaranth.lib.io import DifferentialPort, SingleEndedPort

        port = IOPort(width, name=name.removeprefix("uart_"))
        self.ports.append(port)
        return DifferentialPort(port, IOPort(width, name=f"{name}_n")) if name in PAIRS else SingleEndedPort(port)

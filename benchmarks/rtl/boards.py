"""The models that come with unmul on the accelerator's boards: cycles from the core's Verilog, the paper's block.

    python benchmarks/rtl/boards.py [--model FOLDER]... [--out FOLDER] [--figure docs/figures/rtl-boards.png]

Nothing is counted before logits and state of the simulated core equal the twin's to the bit, and what it reads from
memory the bits that the energy is counted from. Writes rtl_<date>.md and .json to benchmarks/reports, and the figure of
the first model. Cores are compiled once (minutes each); those too wide for that stay modelled, which their rows say.
Nothing ran on a board.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unmul.checkpoint import PackedCheckpoint
from unmul.files import write_text
from unmul.gateware.boards import BOARDS, Board
from unmul.gateware.chart import draw
from unmul.gateware.compile import plan_model
from unmul.gateware.energy import DRAM
from unmul.gateware.isa import Operation, assemble
from unmul.gateware.parameters import Parameters
from unmul.gateware.report import report
from unmul.gateware.sim.core import Core, Memory
from unmul.gateware.timing import model_time
from unmul.runtime import embedded_model, tiny_model

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "decode"))
from engine import REPOSITORY, describe

ROWS, BEATS = 20_000, 2  # of the product that keeps the lanes busy
BANDS = (("logic", "logic_millijoules"), ("+ memory", "with_memory_millijoules"), ("+ rest", "with_idle_millijoules"))
WAITS = ("starved", "waits_for_unit", "waits_for_register", "waits_for_queue")
UNITS = ("stream", "norm", "row")

SPEED = (
    "model",
    "board",
    "lanes",
    "MHz",
    "cycles a token",
    "are",
    "tokens/s",
    "byte bound",
    "share of it",
    "to max + chain",
)
STALLS = ("model", "board", *WAITS, *(f"{unit} busy" for unit in UNITS), "lanes of a product", "seconds")
ENERGY = ("model", "board", *(name for name, _ in BANDS))
BLOCKS = ("port, bits", "lanes", "our cycles", "are", "ours, ms", "the paper's, ms", "theirs was obtained")

HOW = """\
Nothing ran on a board. Simulated: the core's Verilog in Verilator behind a model of the board's memory; its logits and
state equalled the twin's to the bit before anything was counted, and the bits that it read were those of the energy
table. Clocks of ECP5 boards are met by the core alone in place and route (docs/rtl.md), others are assumed."""
BOUNDS = """\
Byte bound: cycles for every word that a token reads, at the memory's peak; the aim is 75 % of it on ECP5 boards. Max +
chain: the larger of words and beats, and the modelled cycles of the program with every product and load one beat long;
the aim is at most 1.15, and below 1 the two overlap.

Where the cycles of a simulated token go (they overlap), and the seconds of one core that
simulating it takes (the aim is below 2):"""
LANES = f"""\
Lanes of a product: beats a cycle of {ROWS:,} rows of {BEATS} beats, start and end included, behind a memory that never
stalls (the aim is 95 %); only where the port is as wide as a beat.

Millijoules a token, low - middle - high, estimated (docs/rtl.md says how):"""
BLOCK = "One block of width 512 at 60 MHz; ours is whole, the paper's without output projection, GLU and head:"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, action="append")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "reports")
    parser.add_argument("--figure", type=Path, default=REPOSITORY / "docs" / "figures" / "rtl-boards.png")
    options = parser.parse_args()
    models = [measure(folder) for folder in options.model or (embedded_model(), tiny_model())]
    found = describe() | {"models": models}
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"rtl_{found['date']}.md"
    write_text(path.with_suffix(".json"), json.dumps(found, indent=2) + "\n")
    write_text(path, markdown(found))
    draw(models[0], options.figure)
    print(path)


def measure(folder: Path) -> dict[str, Any]:
    """A model on every board, with what only this report holds."""
    packed = PackedCheckpoint.open(folder)
    found = report(packed, [board for board in BOARDS.values() if board.name != "sim"], simulate=True)
    for row in found["boards"]:
        check(row)
        row["model"] = found["model"]
        row["chain_cycles"] = chain_cycles(packed, BOARDS[row["board"]], Parameters.from_dict(row["parameters"]))
        row["lane_share"] = lane_share(row) if row["simulated"] else None
    return found


def check(row: Mapping[str, Any]) -> None:
    """Stop where what was simulated is not what is counted."""
    if not row["simulated"]:
        return
    read = 8 * row["parameters"]["port_bytes"] * row["simulated"]["words"]
    (counted,) = (line["events"] for line in row["energy"]["lines"] if line["component"] == DRAM)
    if read != counted:
        sys.exit(f"{row['board']}: {read} bits were read, {counted} are in the energy table")
    if row["simulated"]["saturations"]:
        sys.exit(f"{row['board']}: {row['simulated']['saturations']} elements did not fit int32")


def chain_cycles(packed: PackedCheckpoint, board: Board, parameters: Parameters) -> int:
    """Modelled cycles of the instructions that wait for each other, were every stream instruction one beat long."""
    program = [_cut(operation) for operation in plan_model(packed, parameters).program]
    return model_time(program, parameters, replace(board, bandwidth=1e18, latency_ns=0)).cycles


def lane_share(row: Mapping[str, Any]) -> float | None:
    """Beats a cycle of one long product whose memory never stalls; None where the port is narrower than a beat."""
    parameters = Parameters.from_dict(row["parameters"])
    if parameters.port_bytes < parameters.beat_bytes:
        return None
    length = ROWS * BEATS
    core = Core(parameters, np.zeros(parameters.words(length) * parameters.port_bytes, np.uint8), Memory())
    core.load_program(assemble(f"stream address=0, length={length}\nthead q0, s0, count={ROWS}, beats={BEATS}\nhalt"))
    return length / core.run(0)


def _cut(operation: Operation) -> Operation:
    if operation.unit != "stream":
        return operation
    return Operation(operation.name, {**operation.values, **dict.fromkeys({"count", "beats"} & {*operation.values}, 1)})


def markdown(found: Mapping[str, Any]) -> str:
    """The report."""
    where, models = found["machine"], found["models"]
    boards = [row for model in models for row in model["boards"]]
    measured = [row for row in boards if row["simulated"]]
    command = " ".join(["python", *found["command"]])
    title = f"# The accelerator on its boards, {found['date']}"
    names = " and ".join(f"{model['model']} ({model['parameters']:,} parameters)" for model in models)
    about = (
        f"{names}. Commit {found['commit']}; {where['cpu']},\n"
        f"{where['cores']} cores, load {where['load']}. Command: `{command}`."
    )
    parts = [
        title,
        about,
        HOW,
        _table(SPEED, map(_speed, boards)),
        BOUNDS,
        _table(STALLS, map(_stalls, measured)),
        LANES,
    ]
    parts += [_table(ENERGY, map(_energy, boards)), BLOCK, _table(BLOCKS, map(_block, models[0]["paper_block"]))]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines))


def _speed(row: Mapping[str, Any]) -> list[str]:
    decode, cycles = row["modelled"]["decode"], row["cycles"]
    floor = decode["bound_cycles"] + row["chain_cycles"]
    return [
        row["model"],
        row["board"],
        str(row["parameters"]["lanes"]),
        f"{row['parameters']['clock_mhz']:g}",
        f"{cycles:,}",
        _origin(row["cycles_from"], cycles, decode["cycles"]),
        f"{row['tokens_per_second']:,.1f}",
        f"{decode['memory_cycles']:,}",
        f"{decode['memory_cycles'] / cycles:.1%}",
        f"{cycles / floor:.3f}",
    ]


def _origin(origin: str, cycles: int, modelled: int) -> str:
    return f"simulated; modelled {modelled:,} ({modelled / cycles - 1:+.2%})" if origin == "simulated" else origin


def _stalls(row: Mapping[str, Any]) -> list[str]:
    found, share = row["simulated"], row["lane_share"]
    waits = [f"{found['stalls'][name]:,}" for name in WAITS]
    busy = [f"{found['busy'][unit]:.0%}" for unit in UNITS]
    return [
        row["model"],
        row["board"],
        *waits,
        *busy,
        f"{share:.2%}" if share else "port too narrow",
        f"{found['seconds']:.2f}",
    ]


def _energy(row: Mapping[str, Any]) -> list[str]:
    return [
        row["model"],
        row["board"],
        *(" - ".join(f"{value:.3g}" for value in row["energy"][key]) for _, key in BANDS),
    ]


def _block(block: Mapping[str, Any]) -> list[str]:
    return [
        str(8 * block["port_bytes"]),
        str(block["lanes"]),
        f"{block['cycles']:,}",
        _origin(block["cycles_from"], block["cycles"], block["modelled_cycles"]),
        f"{block['our_milliseconds']:.3g}",
        f"{block['milliseconds']:g}",
        block["obtained"],
    ]


if __name__ == "__main__":
    main()

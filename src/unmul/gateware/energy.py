"""Joules of a token: events, counted exactly from the program, times picojoules, which are bands with a source.

Nothing here was metered. The one open system with a meter, bitnet-kv260, lies within a factor of two of this method, so
the bands are at least that wide, and a total is never printed without its low and high.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unmul.gateware.boards import Band, Board
from unmul.gateware.execute import control_flow
from unmul.gateware.isa import INSTRUCTIONS, Operation
from unmul.gateware.parameters import Parameters
from unmul.gateware.timing import PASSES

__all__ = ["Energy", "Line", "count_events", "estimate"]

VECTOR_BITS, CODE_BITS = 32, 8

PRODUCTS, ELEMENTS, RAM, DRAM = "ternary products", "vector elements", "block RAM, bits", "memory, bits"

# Picojoules an event, by the fabric's process.
BANDS = {
    "40 nm": {PRODUCTS: Band(2, 4, 8), ELEMENTS: Band(10, 30, 90), RAM: Band(0.16, 0.5, 1.6)},
    "16 nm": {PRODUCTS: Band(0.5, 1, 2), ELEMENTS: Band(2.5, 7.5, 22), RAM: Band(0.1, 0.3, 1.0)},
}
SOURCES = {
    PRODUCTS: "toggles of a netlist x 0.15-0.6 pF (Shang et al. 2002, scaled); low edge: Horowitz 2014 x Kuon-Rose",
    ELEMENTS: "two 32-bit multiplications and a shifter: Horowitz 2014 x 1 to 14 (hard blocks to LUTs, Kuon-Rose)",
    RAM: "8 kB to 1 MB SRAM, Horowitz 2014: 0.16 to 1.6 pJ a bit at 45 nm",
    DRAM: "DDR3/DDR4 20 pJ a bit (Horowitz 2014) ±50 % (Ghose et al. 2018), HBM2 3.9-7 (O'Connor 2017)",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table: what happens how often, what it costs each, and together in millijoules."""

    component: str
    events: int
    picojoules: Band
    millijoules: Band
    source: str


@dataclass(frozen=True, slots=True)
class Energy:
    """A token on a board: the lines, and the three totals, each of which holds the one before it."""

    lines: list[Line]
    logic: Band
    with_memory: Band
    with_idle: Band
    tokens_per_second: float

    def to_dict(self) -> dict[str, Any]:
        """For a JSON document: bands as [low, mid, high]."""
        lines = [
            {
                "component": line.component,
                "events": line.events,
                "picojoules": list(line.picojoules),
                "millijoules": list(line.millijoules),
                "source": line.source,
            }
            for line in self.lines
        ]
        totals = {"logic": self.logic, "with_memory": self.with_memory, "with_idle": self.with_idle}
        return {"lines": lines} | {f"{name}_millijoules": list(band) for name, band in totals.items()}


def count_events(program: Sequence[Operation], parameters: Parameters, *, prefill: bool = False) -> Counter[str]:
    """What one token of a program does, exactly.

    A product is a lane's, filling included; a vector element is one pass through the norm or the row unit; block RAM is
    every bit read from or written to registers and the stream's buffer; memory is every bit of every word read.
    """
    events: Counter[str] = Counter()
    for operation, _counter in control_flow(program, prefill=prefill):
        words = parameters.words(operation.values.get("length", operation.values.get("row_beats", 0)))
        events[DRAM] += 8 * words * parameters.port_bytes
        events[RAM] += 2 * 8 * words * parameters.port_bytes  # into the buffer and out
        if "beats" in operation.values:
            products = operation["count"] * operation["beats"] * parameters.lanes
            events[PRODUCTS] += products
            events[RAM] += CODE_BITS * products
        if operation.unit in ("norm", "row"):
            events[ELEMENTS] += PASSES.get(operation.name, 1) * operation["count"]
        events[RAM] += _register_bits(operation)
    return events


def estimate(events: Counter[str], board: Board, tokens_per_second: float) -> Energy | None:
    """The energy of a token at a rate; None for a board of which nothing is known."""
    if board.dram_pj_per_bit is None or board.idle_watts is None:
        return None
    bands = BANDS[board.process] | {DRAM: board.dram_pj_per_bit}
    lines = [_line(component, events[component], band) for component, band in bands.items()]
    logic = Band(0, 0, 0)
    for line in lines[:-1]:
        logic = logic.plus(line.millijoules)
    with_memory = logic.plus(lines[-1].millijoules)
    idle = board.idle_watts.times(1000 / tokens_per_second)
    return Energy(lines, logic, with_memory, with_memory.plus(idle), tokens_per_second)


def _line(component: str, events: int, band: Band) -> Line:
    return Line(component, events, band, band.times(events * 1e-9), SOURCES[component])


def _register_bits(operation: Operation) -> int:
    """Bits that an instruction moves between its unit and the vector registers and the state."""
    instruction = INSTRUCTIONS[operation.name]
    if "count" not in operation.values or instruction.unit == "control":
        return 0
    reads = sum(name in ("va", "vb") for name in instruction.fields) * PASSES.get(operation.name, 1)
    writes = "vd" in instruction.fields
    state = 2 * (operation.name == "scan")
    codes = CODE_BITS * ("qd" in instruction.fields)
    extra = operation.values.get("add", 0)
    return operation["count"] * (VECTOR_BITS * (reads + writes + state + extra) + codes)

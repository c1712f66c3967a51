"""The core beside its twin: every token runs on both, and logits and state must be equal to the bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from unmul.engine.base import FloatArray
from unmul.gateware.boards import Board
from unmul.gateware.compile import Compiled
from unmul.gateware.sim.core import Memory, SimulatedEngine
from unmul.gateware.twin import Twin

__all__ = ["CheckedEngine"]


class CheckedEngine:
    """engine.base.Engine that runs the simulated core behind a board's memory, with the twin beside it.

    Members: core, as simulated; bit_exact, whether all logits and states so far were equal.
    """

    def __init__(self, compiled: Compiled, board: Board) -> None:
        self.config = compiled.config
        self._simulated = SimulatedEngine(compiled, Memory(board.words_per_cycle, board.latency_cycles))
        self.core = self._simulated.core
        self._twin = Twin(compiled)
        self._rate = board.words_per_cycle
        self._counted: Counter[str] = Counter()
        self._tokens = 0  # that are counted
        self.backend = f"{self._simulated.backend}, memory of {board.name}"
        self.bit_exact = True

    def new_state(self) -> FloatArray:
        return self._simulated.new_state()

    def forward(self, ids: Sequence[int], state: FloatArray, *, every: bool = False) -> FloatArray:
        expected_state, before = state.copy(), Counter(self.core.events)
        logits = self._simulated.forward(ids, state, every=every)
        expected = self._twin.forward(ids, expected_state, every=every)
        same_state = np.array_equal(state.view(np.int32), expected_state.view(np.int32))
        self.bit_exact &= bool(np.array_equal(logits, expected)) and same_state
        if len(ids) == 1:
            self._counted += Counter(self.core.events) - before
            self._tokens += 1
        return logits

    def step(self, ids: Sequence[int], states: Sequence[FloatArray]) -> FloatArray:
        return np.stack([self.forward([token], state) for token, state in zip(ids, states, strict=True)])

    def figures(self) -> dict[str, Any]:
        """Cycles of a token with its head, on average over those that came alone, and why they were not fewer."""
        each = {name: count / max(1, self._tokens) for name, count in self._counted.items()}
        cycles = each.get("cycles", 0.0)
        memory, lanes = each.get("words", 0.0) / self._rate, each.get("beats_taken", 0.0)
        return {
            "bit_exact": self.bit_exact,
            "saturations": self.core.saturations,
            "tokens_measured": self._tokens,
            "cycles_per_token": round(cycles),
            "bound_cycles": round(max(memory, lanes)),
            "bound": "memory" if memory > lanes else "lanes",
            "words": round(each.get("words", 0.0)),
            "beats": round(each.get("beats_taken", 0.0)),
            "stalls": {
                name: round(each.get(name, 0.0))
                for name in ("starved", "waits_for_unit", "waits_for_register", "waits_for_queue")
            },
            "busy": {
                unit: round(each.get(f"{unit}_busy", 0.0) / cycles, 4) if cycles else 0.0
                for unit in ("stream", "norm", "row")
            },
        }

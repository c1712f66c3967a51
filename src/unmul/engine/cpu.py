"""The native CPU engine: the packed model in C++ (csrc/), driven from here. See docs/engine.md.

Same contract as engine.naive.NaiveEngine; compared in tests/engine/test_cpu.py.
"""

# B sequences, L layers, T tokens, E width of the token mixer, V vocabulary

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from unmul.checkpoint import PackedCheckpoint
from unmul.engine.arguments import check_state, check_states, checked_ids
from unmul.engine.base import FloatArray
from unmul.engine.choose import choose_isa, choose_threads
from unmul.engine.load import Embeddings, load_model
from unmul.engine.selftest import check_kernels, check_model

__all__ = ["CHUNK", "CpuEngine"]

# Tokens read at once: enough to read weights seldom, few enough that activations stay in the cache.
# Ctrl-C works between two chunks, and memory does not grow with the prompt.
CHUNK = 128


class CpuEngine:
    """engine.base.Engine on the CPU. Calls from several threads are safe: they take turns.

    Raises:
        UsageError: a thread count that cannot be used.
        EngineError: the instruction set cannot run here, or the self-test failed.
        CheckpointError: packed bytes or scales that no packing writes.
    """

    def __init__(self, packed: PackedCheckpoint, *, threads: int | None = None) -> None:
        self.config = packed.config
        self.threads = choose_threads(threads, packed.config)
        self.isa = choose_isa()
        self.backend = f"cpu {self.isa}, {self.threads} thread{'s' if self.threads > 1 else ''}"
        self._lock = threading.Lock()
        check_kernels(self.isa)
        self._model = load_model(packed, self.isa, self.threads)
        self._embed = Embeddings(packed)
        check_model(self, self._model, packed)

    @property
    def weight_bytes(self) -> int:
        """Bytes of ternary weights in memory, read once for every decoded token."""
        return self._model.weight_bytes

    def new_state(self) -> FloatArray:
        """The state before the first token: zeros [L, E]."""
        return np.zeros((self.config.num_hidden_layers, self.config.mixer_size), np.float32)

    def forward(self, ids: Sequence[int], state: FloatArray, *, every: bool = False) -> FloatArray:
        """Read T >= 1 tokens, advance state [L, E] in place; logits [V] after the last, or with every [T, V].

        Interrupted by Ctrl-C, the state stands somewhere inside the prompt.
        """
        ids_T = checked_ids(ids, self.config)
        check_state(state, self.config)
        logits = np.empty((len(ids_T) if every else 1, self.config.vocab_size), np.float32)
        for start in range(0, len(ids_T), CHUNK):
            wanted = logits[start : start + CHUNK] if every else logits[: start + CHUNK >= len(ids_T)]
            with self._lock:
                self._model.forward(self._embed(ids_T[start : start + CHUNK]), [state], wanted)
        return logits if every else logits[0]

    def step(self, ids: Sequence[int], states: Sequence[FloatArray]) -> FloatArray:
        """Read one token of each of B >= 1 sequences, advance their states [L, E] in place; logits [B, V]."""
        ids_B = checked_ids(ids, self.config)
        check_states(states, len(ids_B), self.config)
        logits_BV = np.empty((len(ids_B), self.config.vocab_size), np.float32)
        for start in range(0, len(ids_B), CHUNK):
            part = slice(start, start + CHUNK)
            with self._lock:
                self._model.forward(self._embed(ids_B[part]), list(states[part]), logits_BV[part])
        return logits_BV

    def read_bandwidth(self, seconds: float = 0.3) -> float:
        """Bytes a second at which this engine's threads read its weights and do nothing else with them."""
        with self._lock:
            return self._model.read_bandwidth(seconds)

    @contextmanager
    def profile(self) -> Iterator[dict[str, float]]:
        """Measure phases; the yielded dict is filled at the end: seconds by phase, the mean over threads."""
        phases: dict[str, float] = {}
        self._model.profile(True)
        try:
            yield phases
        finally:
            self._model.profile(False)
            phases |= self._model.phases()

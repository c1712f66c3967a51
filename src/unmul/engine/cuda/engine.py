"""The CUDA engine: the packed model on an NVIDIA GPU, to the bit as the CPU engine. See docs/engine.md.

Same contract as engine.naive.NaiveEngine; compared in tests/engine/cuda/test_engine.py, on a CPU through an emulator.
"""

# B sequences, L layers, T tokens, E width of the token mixer, V vocabulary

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence

import numpy as np

from unmul.checkpoint import PackedCheckpoint
from unmul.engine.arguments import check_state, check_states, checked_ids
from unmul.engine.base import FloatArray, TokenArray
from unmul.engine.cuda.decode import Decoder
from unmul.engine.cuda.device import Device, Gpu
from unmul.engine.cuda.prefill import CHUNK, Reader
from unmul.engine.cuda.structs import MOST_SEQUENCES, Choice
from unmul.engine.cuda.weights import DeviceWeights
from unmul.engine.sampler import Sampler, damaged_logits
from unmul.errors import EngineError, UsageError

__all__ = ["CudaEngine"]


class CudaEngine:
    """engine.base.Writer on the first NVIDIA GPU. Calls from several threads are safe: they take turns.

    Raises:
        MissingExtraError: no CUDA library.
        EngineError: no GPU, one below sm_80, too little memory, or the self-test failed.
        CheckpointError: packed bytes or scales that no packing writes.
    """

    def __init__(self, packed: PackedCheckpoint, *, device: Device | None = None) -> None:
        if packed.config.use_state_norm:
            raise EngineError("use_state_norm has no CUDA kernels", "run this model with --device cpu")
        self.config = packed.config
        self.device = Gpu() if device is None else device
        self.backend = f"cuda {self.device.name}"
        self.threads = None  # of the host: none of them computes
        self._lock = threading.Lock()
        weights = DeviceWeights(self.device, packed)
        self.weight_bytes = weights.nbytes
        self._states = self.device.allocate(4 * packed.config.state_values * MOST_SEQUENCES)
        self._decoder = Decoder(self.device, packed, weights.model)
        self._reader = Reader(self.device, packed, weights.model)
        weights.check()
        self._probe(packed)

    def new_state(self) -> FloatArray:
        """The state before the first token: zeros [L, E]."""
        return np.zeros((self.config.num_hidden_layers, self.config.mixer_size), np.float32)

    def forward(self, ids: Sequence[int], state: FloatArray, *, every: bool = False) -> FloatArray:
        """Read T >= 1 tokens, advance state [L, E] in place; logits [V] after the last, or with every [T, V].

        Interrupted by Ctrl-C, the state is the one before, or one inside the prompt at a border of chunks.
        """
        ids_T = checked_ids(ids, self.config)
        check_state(state, self.config)
        if len(ids_T) == 1:
            logits = self.step([int(ids_T[0])], [state])
            return logits if every else logits[0]
        logits = np.empty((len(ids_T) if every else 1, self.config.vocab_size), np.float32)
        for start in range(0, len(ids_T), CHUNK):
            part = slice(start, start + CHUNK)
            wanted = logits[part] if every else logits[: start + CHUNK >= len(ids_T)]
            with self._lock:
                self.device.upload(self._states, state)
                self._reader.read(ids_T[part].astype(np.int32), self._states, wanted)
                self.device.download(state, self._states)
        return logits if every else logits[0]

    def step(self, ids: Sequence[int], states: Sequence[FloatArray]) -> FloatArray:
        """Read one token of each of B >= 1 sequences, advance their states [L, E] in place; logits [B, V]."""
        ids_B = checked_ids(ids, self.config).astype(np.int32)
        check_states(states, len(ids_B), self.config)
        logits_BV = np.empty((len(ids_B), self.config.vocab_size), np.float32)
        for start in range(0, len(ids_B), MOST_SEQUENCES):
            part = slice(start, start + MOST_SEQUENCES)
            with self._lock:
                self._upload(states[part])
                self._decoder.step(ids_B[part], self._states, logits_BV[part])
                self._download(states[part])
        return logits_BV

    def write(
        self,
        ids: Sequence[int],
        states: Sequence[FloatArray],
        samplers: Sequence[Sampler],
        *,
        count: int,
        end: int | None = None,
    ) -> TokenArray:
        """Read a token of each of B texts, draw the next, read that, `count` times; states are advanced in place.

        Returns the drawn tokens [count, B]; after the end token of a text, which is not read, -1. The samplers go on as
        if they had drawn them. One launch and one wait for all of it.

        Raises:
            UsageError: more than 64 texts, or ids and states as in step.
            EngineError: NaN or infinite logits.
        """
        ids_B = checked_ids(ids, self.config).astype(np.int32)
        check_states(states, len(ids_B), self.config)
        if len(ids_B) > MOST_SEQUENCES:
            raise UsageError(f"{len(ids_B)} texts at once", f"write at most {MOST_SEQUENCES}")
        with self._lock:
            self._upload(states)
            written = self._decoder.write(ids_B, self._states, _choices(samplers), count, -1 if end is None else end)
            self._download(states)
        for sampler, tokens in zip(samplers, written.T, strict=True):
            _follow(sampler, tokens, end)
        return written

    def read_bandwidth(self) -> float:
        """Bytes a second that the device's memory moves in a copy, read and written."""
        with self._lock:
            return self.device.copy_bandwidth()

    @property
    def device_bytes(self) -> int:
        """Bytes of the device's memory that this engine holds; no text makes them more."""
        return self.device.allocated

    def _upload(self, states: Sequence[FloatArray]) -> None:
        self.device.upload(self._states, np.stack(states))

    def _download(self, states: Sequence[FloatArray]) -> None:
        advanced = np.empty((len(states), *states[0].shape), np.float32)
        self.device.download(advanced, self._states)
        for state, after in zip(states, advanced, strict=True):
            state[:] = after

    def _probe(self, packed: PackedCheckpoint) -> None:
        logits = self.forward([0, self.config.vocab_size - 1], self.new_state(), every=True)
        if not np.isfinite(logits).all():
            problem = f"self-test: the logits of {packed.folder} are not finite"
            raise EngineError(problem, "report it with `unmul doctor --json`")


def _choices(samplers: Sequence[Sampler]) -> ctypes.Array[Choice]:
    return (Choice * len(samplers))(
        *(Choice(s.params.temperature, s.params.top_p, s.random.state, s.params.top_k) for s in samplers)
    )


def _follow(sampler: Sampler, tokens: TokenArray, end: int | None) -> None:
    """Bring a sampler to where it would be, had it drawn these tokens itself."""
    drawn = int((tokens >= 0).sum())
    if sampler.params.temperature > 0:
        sampler.random.skip(drawn)
    if drawn < len(tokens) and (drawn == 0 or tokens[drawn - 1] != end):
        raise damaged_logits()

"""Tokens of a batch one after another: which variant of decode.cu runs, and its memory."""

# B sequences, D width, E width of the token mixer, I hidden, V vocabulary

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

from unmul.checkpoint import PackedCheckpoint
from unmul.config import ModelConfig
from unmul.engine.base import FloatArray
from unmul.engine.cuda.compile import Defines
from unmul.engine.cuda.device import Device, Kernel
from unmul.engine.cuda.layout import TILE_BYTES, TILE_COLUMNS, padded
from unmul.engine.cuda.structs import MOST_SEQUENCES, Call, Choice, DeviceModel, Quantised, Workspace
from unmul.errors import EngineError, UsageError

__all__ = ["THREADS", "Decoder", "decode_defines", "quantised", "row_sizes", "shape_defines"]

Ids = npt.NDArray[np.int32]

THREADS, WARPS = 512, 16  # kThreads
FUSED_SEQUENCES = 2  # kSequences where every block prepares the rows for itself
GROUPS = (1, 2, 4, 8)  # of 8 sequences
MOST_TOKENS = 1 << 16  # of one launch, in all texts
_SUMS = 32 << 10  # bytes of sums in shared memory
_REST = 8 << 10
_TEAM_SUMS = 3 << 8  # kTeamSums
_DEEPEST = 16
_TIMES = 1 << 32


class Decoder:
    """Launches decode.cu."""

    def __init__(self, device: Device, packed: PackedCheckpoint, model: DeviceModel) -> None:
        self._device, self._model, self._config = device, model, packed.config
        self._shape = shape_defines(packed)
        self._kernels: dict[tuple[int, bool], tuple[Kernel, int]] = {}
        self._space = _workspace(device, packed.config)
        self._time = 1
        self._ids = device.allocate(4 * MOST_SEQUENCES)
        self._written = device.allocate(4 * MOST_TOKENS)
        self._choices = device.allocate(ctypes.sizeof(Choice) * MOST_SEQUENCES)

    def step(self, ids_B: Ids, states: int, logits_BV: FloatArray) -> None:
        """Read one token of each sequence."""
        self._device.upload(self._ids, ids_B)
        self._launch(Call(self._ids, self._written, states, 0, len(ids_B), 1, -1))
        self._device.download(logits_BV, self._space.logits)

    def write(self, ids_B: Ids, states: int, choices: ctypes.Array[Choice], count: int, end: int) -> Ids:
        """Read and draw `count` tokens of each sequence: [count, B], -1 after a text's end."""
        if count * len(ids_B) > MOST_TOKENS or count < 1:
            most = MOST_TOKENS // len(ids_B)
            raise UsageError(f"{count} tokens at once of {len(ids_B)} texts", f"choose 1 to {most}")
        written = np.full((count, len(ids_B)), -1, np.int32)
        self._device.upload(self._ids, ids_B)
        self._device.upload(self._written, written)
        self._device.upload(self._choices, np.frombuffer(bytes(choices), np.uint8))
        self._launch(Call(self._ids, self._written, states, self._choices, len(ids_B), count, end))
        self._device.download(written, self._written)
        return written

    def _launch(self, call: Call) -> None:
        call.time = self._times(call.count)
        fused = call.batch <= FUSED_SEQUENCES
        groups = next(groups for groups in GROUPS if call.batch <= 8 * groups)
        kernel, shared = self._kernel(groups, fused)
        kernel((self._device.multiprocessors, 1, 1), THREADS, shared, self._model, self._space, call, together=True)

    def _times(self, count: int) -> int:
        """The first time of a launch of so many tokens: none that stands in memory is met again."""
        needed = count * (4 * self._config.num_hidden_layers + 1)
        if self._time + needed >= _TIMES:
            self._device.upload(self._space.timed, np.zeros(_timed_bytes(self._config), np.uint8))
            self._time = 1
        self._time += needed
        return self._time - needed

    def _kernel(self, groups: int, fused: bool) -> tuple[Kernel, int]:
        if (groups, fused) not in self._kernels:
            defines, shared = decode_defines(self._config, self._device.shared_bytes, groups, fused)
            kernel = self._device.kernel("decode.cu", "decode", {**self._shape, **defines})
            self._kernels[groups, fused] = kernel, shared
        return self._kernels[groups, fused]


def shape_defines(packed: PackedCheckpoint) -> Defines:
    """The macros of shape.cuh."""
    config = packed.config
    return {
        "UNMUL_WIDTH": config.hidden_size,
        "UNMUL_MIXER": config.mixer_size,
        "UNMUL_HIDDEN": config.ffn_size,
        "UNMUL_VOCABULARY": config.vocab_size,
        "UNMUL_LAYERS": config.num_hidden_layers,
        "UNMUL_EPS": f"{float(np.float32(config.rms_norm_eps))!r}f",
        "UNMUL_INT8_EMBEDDINGS": int(packed.embeddings == "int8"),
    }


def decode_defines(config: ModelConfig, shared_bytes: int, groups: int, fused: bool) -> tuple[Defines, int]:
    """The macros of decode.cu, and the shared memory of a block: as many tiles are asked for ahead as it holds."""
    rows = FUSED_SEQUENCES * (_input_row(config) + 192) if fused else 0
    depth = _DEEPEST
    while depth >= 2:
        size = depth * WARPS * TILE_BYTES + _SUMS + _REST + rows
        if size <= shared_bytes:
            defines = {"UNMUL_GROUPS": groups, "UNMUL_FUSED": int(fused), "UNMUL_DEPTH": depth, "UNMUL_SHARED": size}
            return defines, size
        depth //= 2
    problem = f"a block needs {size >> 10} KiB of shared memory, the GPU has {shared_bytes >> 10}"
    raise EngineError(problem, "choose --device cpu")


def row_sizes(config: ModelConfig) -> tuple[int, int, int]:
    """Padded lengths of rows [D], [E] and [I]."""
    width, mixer, hidden = (
        padded(size, TILE_COLUMNS) for size in (config.hidden_size, config.mixer_size, config.ffn_size)
    )
    return width, mixer, hidden


def _input_row(config: ModelConfig) -> int:
    """kInputRow: bytes of what a token's widest product reads."""
    width, mixer, hidden = row_sizes(config)
    return max(3 * width, mixer, hidden)


def _workspace(device: Device, config: ModelConfig) -> Workspace:
    width, mixer, hidden = row_sizes(config)
    batch, vocabulary = MOST_SEQUENCES, config.vocab_size
    return Workspace(
        x=device.allocate(4 * batch * width),
        gate=device.allocate(4 * batch * mixer),
        hidden=device.allocate(4 * batch * mixer),
        wide=device.allocate(4 * batch * hidden),
        input=quantised(device, config, batch),
        logits=device.allocate(4 * batch * vocabulary),
        best=device.allocate(8 * 2 * batch),
        next=device.allocate(4 * batch),
        weights=device.allocate(8 * batch * vocabulary),
        sums=device.allocate(8 * batch * _TEAM_SUMS),
        barrier=device.allocate(8 * (1 + batch)),
        timed=device.allocate(_timed_bytes(config)),
    )


def _timed_bytes(config: ModelConfig) -> int:
    """Of the rows of exchange.cuh."""
    return 8 * 4 * FUSED_SEQUENCES * max(row_sizes(config))


def quantised(device: Device, config: ModelConfig, tokens: int) -> Quantised:
    """Memory for the quantised input of a product."""
    return Quantised(
        q=device.allocate(tokens * _input_row(config)),
        factor=device.allocate(4 * 3 * tokens),
        sum=device.allocate(4 * 3 * tokens),
        tokens=tokens,
    )

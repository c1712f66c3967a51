"""Many tokens of one text: the launches of prefill.cu in their order, and their memory."""

# T tokens, D width, E width of the token mixer, I hidden, V vocabulary

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unmul.checkpoint import PackedCheckpoint
from unmul.engine.base import FloatArray
from unmul.engine.cuda.compile import Defines
from unmul.engine.cuda.decode import THREADS, quantised, row_sizes, shape_defines
from unmul.engine.cuda.device import Device, Kernel
from unmul.engine.cuda.layout import TILE_BYTES, TILE_COLUMNS, TILE_ROWS
from unmul.engine.cuda.structs import Chunk, DeviceModel, Workspace

__all__ = ["CHUNK", "Reader", "prefill_defines"]

# Enough that products are bound by arithmetic; memory does not grow with the prompt, and Ctrl-C works between two.
CHUNK = 2048
HEAD_TOKENS = 64  # logits are wide: only so many tokens of them at a time
TOKEN_GROUPS = (2, 4, 8)  # of 8 tokens, for a warp
WARP_COLUMNS = 4  # warps of a block beside each other
BLOCK_PANELS = 8
PRODUCT_THREADS = 256
_SCRATCH = 1024  # bytes of Scratch
_SCAN = 6 * 60 * 16 * 4  # bytes of ScanMemory


class Reader:
    """Launches prefill.cu. Its memory is taken when the first prompt is read."""

    def __init__(self, device: Device, packed: PackedCheckpoint, model: DeviceModel) -> None:
        self._device, self._model, self._config = device, model, packed.config
        self._shape = shape_defines(packed)
        self._kernels: dict[tuple[str, int], tuple[Kernel, int]] = {}
        self._space: Workspace | None = None
        self._ids = self._mixed = 0

    def read(self, ids_T: npt.NDArray[np.int32], state: int, logits: FloatArray) -> None:
        """Read a chunk, advance the state at an address; logits [R, V] after the last R tokens."""
        if self._space is None:
            self._space = self._allocate()
        self._device.upload(self._ids, ids_T)
        chunk = Chunk(self._ids, state, self._mixed, len(ids_T), 0, 0)
        self._rows("embed_rows", chunk, len(ids_T))
        for chunk.layer in range(self._config.num_hidden_layers):
            self._layer(chunk)
        self._head(chunk, logits)

    def _layer(self, chunk: Chunk) -> None:
        width, mixer, hidden = (size // TILE_ROWS for size in row_sizes(self._config))  # padding is written, too
        self._rows("mix_in_rows", chunk, chunk.tokens)
        self._product("mix_in", chunk, chunk.tokens, mixer, 3)
        self._kernel("scan", chunk.tokens)[0]((mixer, 1, 1), THREADS, _SCAN, self._model, self._workspace, chunk)
        self._rows("mix_out_rows", chunk, chunk.tokens)
        self._product("mix_out", chunk, chunk.tokens, width)
        self._rows("channel_in_rows", chunk, chunk.tokens)
        self._product("channel_in", chunk, chunk.tokens, 2 * hidden)
        self._rows("channel_out_rows", chunk, chunk.tokens)
        self._product("channel_out", chunk, chunk.tokens, width)

    def _head(self, chunk: Chunk, logits: FloatArray) -> None:
        tokens = chunk.tokens
        for start in range(0, len(logits), HEAD_TOKENS):
            part = logits[start : start + HEAD_TOKENS]
            chunk.first, chunk.tokens = tokens - len(logits) + start, len(part)
            self._rows("head_rows", chunk, len(part))
            self._product("head", chunk, len(part), -(-self._config.vocab_size // TILE_ROWS))
            self._device.download(part, self._workspace.logits)

    def _rows(self, name: str, chunk: Chunk, tokens: int) -> None:
        self._kernel(name, tokens)[0]((tokens, 1, 1), THREADS, _SCRATCH, self._model, self._workspace, chunk)

    def _product(self, name: str, chunk: Chunk, tokens: int, panels: int, projections: int = 1) -> None:
        kernel, groups = self._kernel(name, tokens)
        grid = (-(-panels // BLOCK_PANELS), -(-tokens // (8 * groups * WARP_COLUMNS)), projections)
        shared = _stages(self._device.shared_bytes, groups) * _stage_bytes(groups)
        kernel(grid, PRODUCT_THREADS, shared, self._model, self._workspace, chunk)

    @property
    def _workspace(self) -> Workspace:
        assert self._space is not None
        return self._space

    def _kernel(self, name: str, tokens: int) -> tuple[Kernel, int]:
        """A kernel in its variant for so many tokens, and the groups of tokens of that variant."""
        wide = (groups for groups in TOKEN_GROUPS if tokens <= 8 * groups * WARP_COLUMNS)
        groups = next(wide, TOKEN_GROUPS[-1])
        if (name, groups) not in self._kernels:
            defines = {**self._shape, **prefill_defines(self._device.shared_bytes, groups)}
            self._kernels[name, groups] = self._device.kernel("prefill.cu", name, defines), groups
        return self._kernels[name, groups]

    def _allocate(self) -> Workspace:
        width, mixer, hidden = row_sizes(self._config)
        device = self._device
        self._ids = device.allocate(4 * CHUNK)
        # The channel mixer's rows stand where the token mixer's stood.
        self._mixed = device.allocate(4 * CHUNK * max(3 * mixer, hidden))
        return Workspace(
            x=device.allocate(4 * CHUNK * width),
            wide=self._mixed,
            input=quantised(device, self._config, CHUNK),
            logits=device.allocate(4 * HEAD_TOKENS * self._config.vocab_size),
        )


def prefill_defines(shared_bytes: int, groups: int) -> Defines:
    """The macros of prefill.cu for so many groups of tokens."""
    return {"UNMUL_TOKEN_GROUPS": groups, "UNMUL_STAGES": _stages(shared_bytes, groups)}


def _stage_bytes(groups: int) -> int:
    return BLOCK_PANELS * TILE_BYTES + 8 * groups * WARP_COLUMNS * TILE_COLUMNS


def _stages(shared_bytes: int, groups: int) -> int:
    return min(4, shared_bytes // _stage_bytes(groups))

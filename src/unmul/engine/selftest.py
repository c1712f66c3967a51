"""Checks at load that refuse rather than speak nonsense: kernels, layout in memory, and a probe of the whole model."""

# T tokens, N rows, K columns

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unmul import ternary
from unmul.checkpoint import PackedCheckpoint
from unmul.checkpoint.tensorfile import release_pages
from unmul.engine import _native
from unmul.engine.base import Engine
from unmul.engine.load import projections
from unmul.errors import EngineError

__all__ = ["aligned_integers", "check_kernels", "check_model"]

Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]

SAMPLED_ROWS = 4
_TILE_ROWS = 16
_ALIGNMENT = 64


def aligned_integers(tokens: int, rows: int) -> Int32:
    """Uninitialised int32 [T, N rounded up to 16] whose rows the kernels can write to."""
    columns = -(-rows // _TILE_ROWS) * _TILE_ROWS
    memory = np.empty(4 * tokens * columns + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + 4 * tokens * columns].view(np.int32).reshape(tokens, columns)


def check_kernels(isa: str) -> None:
    """The chosen products, quantisation and exponential against the scalar ones, to the bit, on random data."""
    random = np.random.default_rng(0)
    code = random.integers(-1, 2, (35, 321), np.int8)
    matrix = _native.Matrix(ternary.pack(code), code.shape[1])
    for tokens in (1, 2, 7, 9):
        q = random.integers(-128, 128, (tokens, code.shape[1]), np.int8)
        expected = q.astype(np.int32) @ code.T.astype(np.int32)
        for name in {"scalar", isa}:
            out = aligned_integers(tokens, len(code))
            matrix.product(name, q, out)
            _require((out[:, : len(code)] == expected).all(), f"the {name} product differs from NumPy's")
    x = random.normal(0, 3, 321).astype(np.float32)
    _require(_floats(isa, x) == _floats("scalar", x), f"{isa} rounds otherwise than scalar")


def check_model(engine: Engine, model: _native.Model, packed: PackedCheckpoint) -> None:
    """A few rows of every loaded projection against the file's own codes, then the logits of a short probe."""
    random = np.random.default_rng(0)
    for layer, name, tensor, rows in projections(packed):
        _check_projection(model, layer, name, packed, tensor + ".weight", rows, random)
    logits = engine.forward([0, engine.config.vocab_size - 1], engine.new_state(), every=True)
    _require(np.isfinite(logits).all(), f"the logits of {packed.folder} are not finite")


def _check_projection(
    model: _native.Model,
    layer: int,
    name: str,
    packed: PackedCheckpoint,
    tensor: str,
    rows: slice,
    random: np.random.Generator,
) -> None:
    weight = packed.tensors[tensor][rows]
    columns = packed.config.tensor_shapes[tensor][1]
    sampled = random.integers(0, len(weight), SAMPLED_ROWS)
    q = random.integers(-128, 128, (1, columns), np.int8)
    out = aligned_integers(1, len(weight))
    model.product(layer, name, q, out)
    expected = q.astype(np.int32) @ ternary.unpack(weight[sampled], columns).T.astype(np.int32)
    release_pages(packed.tensors[tensor])
    _require((out[:, sampled] == expected).all(), f"{tensor} in memory differs from {packed.folder}")


def _floats(isa: str, x: npt.NDArray[np.float32]) -> tuple[float, bytes, bytes]:
    q, y = np.empty(len(x), np.int8), np.empty_like(x)
    scale = _native.quantise(isa, x, q)
    _native.exponential(isa, x, y)
    return scale, q.tobytes(), y.tobytes()


def _require(condition: bool | np.bool_, problem: str) -> None:
    if not condition:
        raise EngineError(f"self-test: {problem}", "try UNMUL_ISA=scalar, and report it with `unmul doctor --json`")

"""From a packed folder to the native model in memory: which projections there are, and how they get there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from unmul.checkpoint import PackedCheckpoint
from unmul.checkpoint.tensorfile import RowReader, release_pages
from unmul.engine import _native
from unmul.engine.base import FloatArray
from unmul.engine.naive import forget_bounds
from unmul.errors import CheckpointError

__all__ = ["Embeddings", "load_model", "projections"]

_EMBEDDINGS = "model.embeddings.weight"
_REPACK = "the file is sound but its numbers are not: pack the latent checkpoint again"


class Embeddings:
    """The file's embedding table, read row by row: tokens [T] -> float32 [T, D]."""

    def __init__(self, packed: PackedCheckpoint) -> None:
        self._rows = RowReader(packed.tensors[_EMBEDDINGS])
        self._scales = _finite(packed, _EMBEDDINGS + "_scale") if packed.embeddings == "int8" else None

    def __call__(self, ids_T: npt.NDArray[np.int64]) -> FloatArray:
        x_TD: FloatArray = self._rows(ids_T.tolist()).astype(np.float32)
        return x_TD if self._scales is None else x_TD * self._scales[ids_T][:, None]


def load_model(packed: PackedCheckpoint, isa: str, threads: int) -> _native.Model:
    """A native model with every weight of a packed folder; the file's pages leave memory tensor by tensor."""
    config = packed.config
    layers = config.num_hidden_layers
    model = _native.Model(
        isa,
        threads=threads,
        layers=layers,
        width=config.hidden_size,
        mixer=config.mixer_size,
        hidden=config.ffn_size,
        vocabulary=config.vocab_size,
        eps=config.rms_norm_eps,
        shared_norm=config.use_shared_norm,
        state_norm=config.use_state_norm,
    )
    for layer, name, tensor, rows in projections(packed):
        _load_projection(model, layer, name, packed, tensor, rows)
    for layer, bound in enumerate(forget_bounds(packed)):
        prefix = f"model.layers.{layer}."
        model.set_vector(layer, "attn_norm", _finite(packed, prefix + "attn_norm.weight"))
        model.set_vector(layer, "g_norm", _finite(packed, prefix + "attn.g_norm.weight"))
        model.set_vector(layer, "mlp_norm", _finite(packed, prefix + "mlp_norm.weight"))
        model.set_vector(layer, "bound", bound)
    model.set_vector(layers, "norm", _finite(packed, "model.norm.weight"))
    return model


def projections(packed: PackedCheckpoint) -> Iterator[tuple[int, str, str, slice]]:
    """Layer, engine name, tensor name and rows of every projection.

    gate_proj is held as two, gate and up, so that SwiGLU needs no barrier.
    """
    hidden = packed.config.ffn_size
    for layer in range(packed.config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        for name in "ifgo":
            yield layer, name, f"{prefix}attn.{name}_proj", slice(None)
        yield layer, "gate", prefix + "mlp.gate_proj", slice(hidden)
        yield layer, "up", prefix + "mlp.gate_proj", slice(hidden, None)
        yield layer, "down", prefix + "mlp.down_proj", slice(None)
    yield packed.config.num_hidden_layers, "head", "lm_head", slice(None)


def _load_projection(
    model: _native.Model, layer: int, name: str, packed: PackedCheckpoint, tensor: str, rows: slice
) -> None:
    weight = packed.tensors[tensor + ".weight"]
    scale = float(packed.scale(tensor + ".weight"))
    if not 0 < scale < np.inf:
        raise CheckpointError(f"{packed.folder}: scale of {tensor} is {scale}", _REPACK)
    try:
        model.set_projection(layer, name, weight[rows], scale)
    except ValueError as error:
        raise CheckpointError(f"{packed.folder}: tensor {tensor}.weight cannot be loaded ({error})", _REPACK) from None
    release_pages(weight)
    model.set_vector(layer, name, _finite(packed, tensor + ".norm.weight"))


def _finite(packed: PackedCheckpoint, name: str) -> FloatArray:
    values = packed.tensors[name].astype(np.float32)
    if not np.isfinite(values).all():
        raise CheckpointError(f"{packed.folder}: tensor {name} holds NaN or infinity", _REPACK)
    return values

"""The state of a conversation as a file: a few kilobytes that carry all context, whatever its length."""

# L layers, E width of the token mixer

from __future__ import annotations

from pathlib import Path

import numpy as np

from unmul.checkpoint import read_config
from unmul.checkpoint.tensorfile import TensorFile, TensorSpec, write_tensors
from unmul.engine.base import FloatArray
from unmul.errors import UsageError
from unmul.files import atomic_file

__all__ = ["check_state", "fingerprint", "read_state", "write_state"]

TENSOR = "state"
MODEL = "model"  # key of the fingerprint of the weights that made the state


def fingerprint(folder: Path) -> str:
    """What tells a packed model from another: the checksum of its weights, as packing wrote it."""
    return str(read_config(folder)[1]["quantization_config"]["checksum"])


def write_state(path: Path, state: FloatArray, fingerprint: str) -> None:
    """Write a state [L, E] with the fingerprint of the model that made it."""
    specs = {TENSOR: TensorSpec(state.dtype, state.shape)}
    with atomic_file(path) as handle:
        write_tensors(handle, specs, lambda _: state, {MODEL: fingerprint})


def read_state(path: Path, like: FloatArray, fingerprint: str) -> FloatArray:
    """Read a state that this very model made; like gives the shape."""
    file = TensorFile(path)
    if TENSOR not in file:
        raise UsageError(f"{path} holds no state", "give a file that Model.save_state wrote")
    if file.metadata.get(MODEL) != fingerprint:
        raise UsageError(f"{path} was made by another model", "load the model that wrote it")
    return check_state(np.array(file[TENSOR]), like)


def check_state(state: FloatArray, like: FloatArray) -> FloatArray:
    """Refuse an array that cannot be a state of the model."""
    if state.shape != like.shape or state.dtype != like.dtype:
        raise UsageError(
            f"state {state.dtype} {list(state.shape)} does not fit the model",
            f"give {like.dtype} {list(like.shape)}",
        )
    if not np.isfinite(state).all():
        raise UsageError("state holds NaN or infinity", "give a state that the model made")
    return state

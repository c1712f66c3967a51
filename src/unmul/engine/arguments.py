"""What every engine refuses: ids that are no tokens, states that are none of the model's."""

# B sequences, T tokens, L layers, E width of the token mixer

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unmul.config import ModelConfig
from unmul.engine.base import FloatArray
from unmul.errors import UsageError

__all__ = ["check_state", "check_states", "checked_ids"]


def checked_ids(ids: Sequence[int], config: ModelConfig) -> npt.NDArray[np.int64]:
    """At least one token id of the model's vocabulary, as an array [T]."""
    ids_T = np.asarray(ids)
    if ids_T.ndim != 1 or ids_T.size == 0:
        raise UsageError(f"ids of shape {list(ids_T.shape)} cannot be read", "give a list of at least one token id")
    if not np.issubdtype(ids_T.dtype, np.integer):
        raise UsageError(f"ids of type {ids_T.dtype} cannot be read", "give whole numbers")
    outside = ids_T[(ids_T < 0) | (ids_T >= config.vocab_size)]
    if outside.size:
        raise UsageError(f"token id {outside[0]} is not in the model", f"choose 0 to {config.vocab_size - 1}")
    return ids_T.astype(np.int64)


def check_states(states: Sequence[FloatArray], count: int, config: ModelConfig) -> None:
    """One state for each of so many ids, no two of them the same memory."""
    if len(states) != count:
        raise UsageError(f"{count} ids came with {len(states)} states", "give each sequence one of each")
    for state in states:
        check_state(state, config)
    if len({state.ctypes.data for state in states}) < len(states):
        raise UsageError("two sequences share one state", "pass state.copy()")


def check_state(state: FloatArray, config: ModelConfig) -> None:
    """A state [L, E] that can be advanced in place."""
    shape = (config.num_hidden_layers, config.mixer_size)
    if not isinstance(state, np.ndarray) or state.shape != shape or state.dtype != np.float32:
        found = f"{getattr(state, 'dtype', type(state).__name__)} {list(np.shape(state))}"
        raise UsageError(f"state is {found}, not float32 {list(shape)}", "start from new_state()")
    if not state.flags.c_contiguous or not state.flags.writeable:
        raise UsageError("state is read-only or not contiguous", "pass state.copy()")

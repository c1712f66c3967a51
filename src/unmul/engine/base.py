"""What every runtime answers: tokens and state in, logits and state out."""

# B sequences, L layers, D width, T tokens, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from unmul.config import ModelConfig

__all__ = ["Engine", "FloatArray"]

FloatArray = npt.NDArray[np.float32]


class Engine(Protocol):
    """A runtime with its weights loaded. The whole context of a conversation is one small array that the caller owns:
    copy it to branch, write it to a file to pause, pass it again to continue."""

    config: ModelConfig
    backend: str  # what runs, for people: "cpu avx512-vnni, 2 threads"

    def new_state(self) -> FloatArray:
        """The state before the first token: zeros [L, D]."""
        ...

    def forward(self, ids: Sequence[int], state: FloatArray, *, every: bool = False) -> FloatArray:
        """Read T >= 1 tokens, advance state in place, return the logits.

        Shapes: state [L, D] -> logits [V] after the last token, or with every [T, V] after each one.
        """
        ...

    def step(self, ids: Sequence[int], states: Sequence[FloatArray]) -> FloatArray:
        """Read one token of each of B >= 1 sequences, advance their states in place, return the logits [B, V].

        Shapes: ids [B], states B times [L, D], no two of them the same memory. Equal to B calls of forward; weights
        are read once.
        """
        ...

"""What every runtime answers: tokens and state in, logits and state out."""

# B sequences, L layers, E width of the token mixer, T tokens, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from unmul.config import ModelConfig

if TYPE_CHECKING:
    from unmul.engine.sampler import Sampler

__all__ = ["Engine", "FloatArray", "TokenArray", "Writer"]

FloatArray = npt.NDArray[np.float32]
TokenArray = npt.NDArray[np.int32]


class Engine(Protocol):
    """A runtime with its weights loaded. The whole context of a conversation is one small array that the caller owns:
    copy it to branch, write it to a file to pause, pass it again to continue."""

    config: ModelConfig
    backend: str  # what runs, for people: "cpu avx512-vnni, 2 threads"

    def new_state(self) -> FloatArray:
        """The state before the first token: zeros [L, E]."""
        ...

    def forward(self, ids: Sequence[int], state: FloatArray, *, every: bool = False) -> FloatArray:
        """Read T >= 1 tokens, advance state in place, return the logits.

        Shapes: state [L, E] -> logits [V] after the last token, or with every [T, V] after each one.
        """
        ...

    def step(self, ids: Sequence[int], states: Sequence[FloatArray]) -> FloatArray:
        """Read one token of each of B >= 1 sequences, advance their states in place, return the logits [B, V].

        Shapes: ids [B], states B times [L, E], no two of them the same memory. Equal to B calls of forward; weights
        are read once.
        """
        ...


@runtime_checkable
class Writer(Engine, Protocol):
    """An engine that also draws tokens, and so needs nobody between one token and the next."""

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

        Returns the drawn tokens [count, B], -1 after the end token of a text, which is drawn and not read. The last
        drawn ones are not read either. The samplers draw what they would draw from the logits of step, and go on.
        """
        ...

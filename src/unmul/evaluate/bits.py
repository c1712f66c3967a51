"""THE definition of bits per byte: one for training, evaluation and every backend.

Bits per byte = sum of -log2 p over all text tokens of all documents / UTF-8 bytes of their text. The first token of
a document is predicted from the end token in an empty state; the state then runs through the whole document, of any
length. The end token itself is context only: it is never predicted, and its line in a text file has no bytes.

The windowed figure is what a model with a bounded context gives: the state is emptied every `window` tokens, and each
token is still predicted once, the first of a window from the token before it alone.
"""

# T tokens, V vocabulary

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from unmul.config import ModelConfig
from unmul.engine.base import FloatArray

__all__ = ["Bits", "Document", "Predictor", "Scorer", "log2_probabilities", "measure", "measure_document"]

CHUNK = 1024  # tokens a forward call: bounds the logits in memory, changes no result

State = TypeVar("State")


class Predictor(Protocol[State]):
    """The part of engine.base.Engine that measuring needs, with a context of any kind."""

    config: ModelConfig
    backend: str

    def new_state(self) -> State:
        """The context before the first token."""
        ...

    def forward(self, ids: Sequence[int], state: State, *, every: bool = False) -> FloatArray:
        """Read tokens into the context; the logits [T, V] after every one, or [V] after the last."""
        ...

    def step(self, ids: Sequence[int], states: Sequence[State]) -> FloatArray:
        """Read one token into each of several contexts; the logits [B, V] after it."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A Predictor whose logits stay where they are made, on a GPU above all."""

    def log2_probabilities(self, ids: Sequence[int], targets: Sequence[int], state: State) -> npt.NDArray[np.float64]:
        """Read tokens into the context; log2 p [T] in float64 of a target after each."""
        ...


class Document(NamedTuple):
    """A text as the model sees it: token ids without the end token, and the UTF-8 bytes of the text."""

    ids: Sequence[int]
    bytes: int


@dataclass(frozen=True, slots=True)
class Bits:
    """Sums over documents: bits of surprise, tokens predicted, bytes of text. Two of them add up."""

    bits: float = 0.0
    tokens: int = 0
    bytes: int = 0

    def __add__(self, other: Bits) -> Bits:
        return Bits(self.bits + other.bits, self.tokens + other.tokens, self.bytes + other.bytes)

    @property
    def bits_per_byte(self) -> float:
        """The figure that compares models with different tokenizers; NaN when there is no text."""
        return self.bits / self.bytes if self.bytes else math.nan

    @property
    def perplexity(self) -> float:
        """2 to the mean bits of a token: depends on the tokenizer; NaN when there is no text."""
        return float(2 ** (self.bits / self.tokens)) if self.tokens else math.nan


def measure(engine: Predictor[State], documents: Iterable[Document], end: int) -> Iterator[Bits]:
    """Score documents one by one; yields the running sum after each, so that callers can show progress.

    Args:
        engine: any backend, or another Predictor.
        end: id of the end token, the context of every first token.
    """
    total = Bits()
    for document in documents:
        total += measure_document(engine, document, end)
        yield total


def measure_document(engine: Predictor[State], document: Document, end: int, window: int | None = None) -> Bits:
    """Score one document; with window, the state is emptied every so many tokens."""
    length = len(document.ids)
    context = [end, *document.ids[:-1]]
    score = engine.log2_probabilities if isinstance(engine, Scorer) else partial(_scores, engine)
    bits = 0.0
    for first in range(0, length, window or max(length, 1)):
        state = engine.new_state()
        last = min(first + window, length) if window else length
        for start in range(first, last, CHUNK):
            part = slice(start, min(start + CHUNK, last))
            bits -= float(score(context[part], document.ids[part], state).sum())
    return Bits(bits, length, document.bytes)


def _scores(
    engine: Predictor[State], ids: Sequence[int], targets: Sequence[int], state: State
) -> npt.NDArray[np.float64]:
    return log2_probabilities(engine.forward(ids, state, every=True), targets)


def log2_probabilities(logits_TV: FloatArray, targets: Sequence[int]) -> npt.NDArray[np.float64]:
    """log2 p [T] of one target a row under the softmax of its logits, in float64."""
    wide_TV = logits_TV.astype(np.float64)
    wide_TV -= wide_TV.max(-1, keepdims=True)
    chosen_T = wide_TV[np.arange(len(targets)), np.asarray(targets, np.int64)]
    return (chosen_T - np.log(np.exp(wide_TV, out=wide_TV).sum(-1))) / math.log(2)

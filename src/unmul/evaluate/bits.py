"""THE definition of bits per byte: one for training, evaluation and every backend.

Bits per byte = sum of -log2 p over all text tokens of all documents / UTF-8 bytes of their text. The first token of
a document is predicted from the end token in an empty state; the state then runs through the whole document, of any
length. The end token itself is context only: it is never predicted, and its line in a text file has no bytes.
"""

# T tokens, V vocabulary

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from unmul.config import ModelConfig
from unmul.engine.base import FloatArray

__all__ = ["Bits", "Document", "Predictor", "measure", "surprise"]

CHUNK = 512  # tokens a forward call: bounds the logits in memory, changes no result

State = TypeVar("State")


class Predictor(Protocol[State]):
    """The part of engine.base.Engine that measuring needs, with a context of any kind."""

    config: ModelConfig

    def new_state(self) -> State:
        """The context before the first token."""
        ...

    def forward(self, ids: Sequence[int], state: State, *, every: bool = False) -> FloatArray:
        """Read tokens into the context; the logits [T, V] after every one, or [V] after the last."""
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
        total += _measure_document(engine, document, end)
        yield total


def _measure_document(engine: Predictor[State], document: Document, end: int) -> Bits:
    state = engine.new_state()
    bits = 0.0
    context = [end, *document.ids[:-1]]
    for start in range(0, len(document.ids), CHUNK):
        logits_TV = engine.forward(context[start : start + CHUNK], state, every=True)
        bits += surprise(logits_TV, document.ids[start : start + CHUNK])
    return Bits(bits, len(document.ids), document.bytes)


def surprise(logits_TV: FloatArray, targets: Sequence[int]) -> float:
    """Sum of -log2 p of the T targets under the softmax of their logits, in float64."""
    wide_TV = logits_TV.astype(np.float64)
    largest_T = wide_TV.max(-1)
    log_sum_T = largest_T + np.log(np.exp(wide_TV - largest_T[:, None]).sum(-1))
    chosen_T = wide_TV[np.arange(len(targets)), np.asarray(targets)]
    return float((log_sum_T - chosen_T).sum() / math.log(2))

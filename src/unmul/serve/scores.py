"""Log-probabilities of tokens, as OpenAI's routes report them: of the model itself, before temperature and cuts."""

# T tokens, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unmul.engine.base import FloatArray

__all__ = ["TokenScore", "score", "score_all"]


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A token, its log-probability (natural), and the likeliest tokens in its place with theirs."""

    token: int
    logprob: float
    top: list[tuple[int, float]]


def score(logits: FloatArray, token: int, top: int) -> TokenScore:
    """Score one token against logits [V], beside the `top` likeliest."""
    shifted = logits.astype(np.float64) - logits.max()
    logprobs = shifted - np.log(np.exp(shifted).sum())
    likeliest = np.argpartition(-logprobs, min(top, len(logprobs) - 1))[:top].tolist()
    likeliest.sort(key=lambda other: (-logprobs[other], other))
    return TokenScore(token, float(logprobs[token]), [(other, float(logprobs[other])) for other in likeliest])


def score_all(logits: FloatArray, tokens: Sequence[int], top: int) -> list[TokenScore]:
    """Score each of T tokens against its row of logits [T, V]."""
    return [score(row, token, top) for row, token in zip(logits, tokens, strict=True)]

"""From logits to the next token. The native sampler and its plain twin, naive_sample, choose exactly the same token.

The rule, in this order, with tokens ranked by falling logit and equal logits by rising id:
1. temperature 0 takes the first of the rank;
2. top_k keeps the first k of the rank; a kept token weighs exp((logit - largest) / temperature) in float64;
3. top_p keeps the shortest beginning of the rank that reaches the share top_p of what top_k kept;
4. the draw walks the kept tokens by rising id until their weight passes uniform * total.
"""

# V vocabulary

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass

import numpy as np

from unmul.engine import _native
from unmul.engine.base import FloatArray
from unmul.errors import EngineError, UsageError

__all__ = ["Sampler", "SamplingParams", "SplitMix64", "damaged_logits", "naive_sample"]

_WORD = 2**64
_STEP = 0x9E3779B97F4A7C15


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingParams:
    """How the next token is chosen: temperature 0 is greedy, top_k 0 keeps all, seed None asks the system for one."""

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 0.95
    seed: int | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.temperature) or not 0 <= self.temperature < math.inf:
            raise UsageError(f"temperature {self.temperature!r} cannot be used", "choose 0 (greedy) or more")
        if not _is_whole(self.top_k) or self.top_k < 0:
            raise UsageError(f"top_k {self.top_k!r} cannot be used", "choose 0 (all tokens) or a count of tokens")
        if not _is_number(self.top_p) or not 0 < self.top_p <= 1:
            raise UsageError(f"top_p {self.top_p!r} cannot be used", "choose more than 0 and at most 1")
        if self.seed is not None and (not _is_whole(self.seed) or not 0 <= self.seed < _WORD):
            raise UsageError(f"seed {self.seed!r} cannot be used", "choose a whole number from 0 to 2^64 - 1")


class SplitMix64:
    """Small random generator with 64 bits of state (Steele, Lea, Flood, OOPSLA 2014)."""

    def __init__(self, seed: int) -> None:
        self._state = seed % _WORD

    @property
    def state(self) -> int:
        """All that decides what comes next."""
        return self._state

    def skip(self, count: int) -> None:
        """Pass over so many numbers, which somebody else has drawn from this state."""
        self._state = (self._state + count * _STEP) % _WORD

    def uniform(self) -> float:
        """The next number in [0, 1): the upper 53 bits of the next word."""
        self.skip(1)
        word = self._state
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % _WORD
        word = (word ^ word >> 27) * 0x94D049BB133111EB % _WORD
        return ((word ^ word >> 31) >> 11) * 2.0**-53


class Sampler:
    """Draws tokens one after another; two samplers with one seed draw the same tokens from the same logits."""

    def __init__(self, params: SamplingParams) -> None:
        self.params = params
        self.random = SplitMix64(secrets.randbits(64) if params.seed is None else params.seed)

    def sample(self, logits: FloatArray) -> int:
        """The next token id. Shape: logits [V] float32. Raises EngineError for NaN or infinite logits."""
        p = self.params
        uniform = 0.0 if p.temperature == 0 else self.random.uniform()
        token = _native.sample(logits, p.temperature, min(p.top_k, len(logits)), p.top_p, uniform)
        if token < 0:
            raise damaged_logits()
        return token


def naive_sample(logits: FloatArray, params: SamplingParams, uniform: float) -> int:
    """The rule above in plain Python. Shape: logits [V]; uniform in [0, 1)."""
    if not np.isfinite(logits).all():
        raise damaged_logits()
    rank = np.lexsort((np.arange(len(logits)), -logits.astype(np.float64))).tolist()
    if params.temperature == 0:
        return int(rank[0])
    largest = float(logits[rank[0]])
    kept = rank[: params.top_k] if params.top_k else rank
    weight = {token: math.exp((float(logits[token]) - largest) / params.temperature) for token in kept}
    if params.top_p < 1:
        kept = _nucleus(kept, weight, params.top_p * _total(weight, sorted(kept)))
    return _draw(sorted(kept), weight, uniform)


def _nucleus(rank: list[int], weight: dict[int, float], enough: float) -> list[int]:
    mass = 0.0
    for count, token in enumerate(rank, 1):
        mass += weight[token]
        if mass >= enough:
            return rank[:count]
    return rank


def _draw(tokens: list[int], weight: dict[int, float], uniform: float) -> int:
    target = uniform * _total(weight, tokens)
    mass = 0.0
    for token in tokens:
        mass += weight[token]
        if mass > target:
            return token
    return tokens[-1]


def _total(weight: dict[int, float], tokens: list[int]) -> float:
    # Added one by one: sum() of Python 3.12 compensates, and the native sampler does not.
    mass = 0.0
    for token in tokens:
        mass += weight[token]
    return mass


def damaged_logits() -> EngineError:
    """The error of logits that are not finite."""
    return EngineError("the logits hold NaN or infinity", "the weights or the state are damaged: load them again")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

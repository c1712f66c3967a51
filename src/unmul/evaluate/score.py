"""Log-probabilities of continuations after contexts, for choices of a task.

A context is read once, whatever the number of its continuations: each goes on from a copy of the context's state, which
is a small array. Continuations are read in lockstep, one token of many sequences a step, so weights are read seldom.
"""

# B sequences, V vocabulary

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from unmul.engine.base import FloatArray
from unmul.evaluate.bits import Predictor, log2_probabilities

__all__ = ["Pair", "PairScorer", "Score", "score"]

BATCH = 64  # sequences a step
POOL = 4 * BATCH  # that wait, so that those of one length can step together; bounds the states in memory


class Pair(NamedTuple):
    """Token ids of a context, at least one, and of what is to be predicted after it."""

    context: Sequence[int]
    continuation: Sequence[int]


class Score(NamedTuple):
    """Of a continuation: its log-probability in nats, and whether every token of it was the likeliest."""

    log_probability: float
    greedy: bool


@runtime_checkable
class PairScorer(Protocol):
    """A Predictor that has no state to go on from, and reads whole texts instead."""

    def score(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Score]]:
        """Score every pair; yields its index and score, in an order of its own."""
        ...


_START = Score(0.0, True)  # nothing predicted yet


@dataclass(slots=True)
class _Job:
    """A continuation on its way: the state after the tokens read, the score of those predicted."""

    index: int
    ids: Sequence[int]
    state: Any
    score: Score = _START


def score(engine: Predictor[Any], pairs: Sequence[Pair]) -> Iterator[tuple[int, Score]]:
    """Score every pair; yields its index and score, in an order of its own."""
    if isinstance(engine, PairScorer):
        yield from engine.score(pairs)
        return
    pool: list[_Job] = []
    for job in _jobs(engine, pairs):
        pool.append(job)
        if len(pool) == POOL:
            yield from _finish(engine, pool)
            pool = []
    yield from _finish(engine, pool)


def _jobs(engine: Predictor[Any], pairs: Sequence[Pair]) -> Iterator[_Job]:
    """Every continuation with its first token predicted; each context is read once."""
    continuations = defaultdict(list)
    for index, pair in enumerate(pairs):
        continuations[tuple(pair.context)].append(index)
    for context, indices in continuations.items():
        state = engine.new_state()
        logits_V = engine.forward(context, state)
        for index in indices:
            job = _Job(index, pairs[index].continuation, state.copy())
            _predict([job], logits_V[None], 0)
            yield job


def _finish(engine: Predictor[Any], pool: list[_Job]) -> Iterator[tuple[int, Score]]:
    pool.sort(key=lambda job: len(job.ids))
    for start in range(0, len(pool), BATCH):
        _read(engine, pool[start : start + BATCH])
    return ((job.index, job.score) for job in pool)


def _read(engine: Predictor[Any], jobs: list[_Job]) -> None:
    """Predict all but the first token of each job, together as long as there are two that go on."""
    for position in range(1, max(len(job.ids) for job in jobs)):
        jobs = [job for job in jobs if len(job.ids) > position]
        logits_BV = engine.step([job.ids[position - 1] for job in jobs], [job.state for job in jobs])
        _predict(jobs, logits_BV, position)


def _predict(jobs: list[_Job], logits_BV: FloatArray, position: int) -> None:
    """Add the token at a position to the scores of jobs that have one."""
    jobs = [job for job in jobs if len(job.ids) > position]
    targets = [job.ids[position] for job in jobs]
    logits_BV = logits_BV[: len(jobs)]
    logs_B = math.log(2) * log2_probabilities(logits_BV, targets)
    for job, target, log, likeliest in zip(jobs, targets, logs_B, logits_BV.argmax(-1), strict=True):
        job.score = Score(job.score.log_probability + float(log), job.score.greedy and bool(target == likeliest))

"""Continuous batching over recurrent states: every round reads a piece of one prompt and writes one token of each text.

A text's context is a state [L, E] and the tokens that it has not read yet. A prompt is read up to its last token; from
there on each step reads one token of every text in one pass over the weights and chooses the next ones. Nothing here
knows threads or HTTP: `turn` does one round, the worker calls it.
"""

# B texts in a step, L layers, E width of the token mixer, V vocabulary

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from unmul.engine.base import Engine, FloatArray
from unmul.errors import UnmulError
from unmul.runtime.answer import Answer, Finish
from unmul.serve.cache import StateCache, Trail, key_of
from unmul.serve.scores import TokenScore, score, score_all

__all__ = ["READ_AT_ONCE", "Context", "Event", "Failed", "Job", "PromptRead", "Scheduler", "Written"]

# Tokens of a prompt between two steps: what the engine reads in one pass. States are cached at its multiples.
READ_AT_ONCE = 128
LEAST_PRICE = 16  # a pass over the weights takes about as long for one token as for so many


@dataclass(frozen=True, slots=True)
class Context:
    """All that a text needs to go on: the state [L, E], the tokens after it that it has not read yet, and those of an
    unfinished character at the end."""

    state: FloatArray
    unread: list[int]
    unfinished: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PromptRead:
    """A prompt has been read; cached counts the tokens whose state was known. Scores where they were asked for."""

    cached: int
    scores: list[TokenScore] = field(default_factory=list)  # of the second token to the last


@dataclass(frozen=True, slots=True)
class Written:
    """One more token of an answer, or its end: the text that is now certain; the last one says why it ended."""

    choice: int
    text: str
    token: int | None
    score: TokenScore | None = None
    finish: Finish | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The job has ended without a result."""

    error: Exception


Event = PromptRead | Written | Failed


@dataclass(eq=False, slots=True)
class Job:
    """One prompt and the answers to it, each drawn from its own sampler. Events are called from the worker's thread.

    Args:
        ids: at least one token; with a start, the tokens after it, its unread ones included.
        start: a state to go on from, which is copied; None begins at nothing and may use cached beginnings.
        top: score every new token, beside this many of the likeliest; None scores none.
        echo: score the tokens of the prompt too.
        shares: cache the states at the ends of prompt and answers for others; False where a session keeps them anyway.
        keep: called once, with the context of the first answer when that ends, or None where the job failed.
    """

    ids: Sequence[int]
    answers: Sequence[Answer]
    emit: Callable[[Event], None]
    start: FloatArray | None = None
    top: int | None = None
    echo: bool = False
    shares: bool = True
    keep: Callable[[Context | None], None] = lambda _: None
    cancelled: bool = False  # set by any thread: its place goes to others with the next round
    stopped: bool = False  # set by any thread: its answers end after the next token, with all their text
    _kept: bool = field(default=False, init=False)

    def leave(self, context: Context | None) -> None:
        """Hand the context over, the first time only."""
        if not self._kept:
            self._kept = True
            self.keep(context)


@dataclass(eq=False, slots=True)
class _Reading:
    job: Job
    state: FloatArray
    trail: Trail
    at: int = 0
    cached: int = 0
    scores: list[TokenScore] = field(default_factory=list)

    @property
    def last(self) -> int:
        """Where the prompt's last token stands, which the first step reads."""
        return len(self.job.ids) - 1

    @property
    def border(self) -> int:
        """The next length at which states are cached."""
        return (self.at // READ_AT_ONCE + 1) * READ_AT_ONCE

    def jump(self, length: int, state: FloatArray) -> None:
        """Go on from a state that is known."""
        self.cached += length - self.at
        self.at, self.state = length, state

    def context(self) -> Context:
        """Where the reading stands, with what an earlier answer left of a character."""
        unfinished = self.job.answers[0].unfinished if self.job.answers else []
        return Context(self.state, list(self.job.ids[self.at :]), unfinished)


@dataclass(eq=False, slots=True)
class _Row:
    job: Job
    choice: int
    state: FloatArray
    unread: int

    @property
    def answer(self) -> Answer:
        return self.job.answers[self.choice]

    def context(self, unread: list[int]) -> Context:
        """Where the text stands, when its state lacks these tokens."""
        return Context(self.state, unread, self.answer.unfinished)


class Scheduler:
    """Jobs in, events out.

    Args:
        slots: most answers that are read or written at once; further jobs wait in the order in which they came.
    """

    def __init__(self, engine: Engine, cache: StateCache, *, slots: int) -> None:
        self.waiting: deque[Job] = deque()
        self.prompt_tokens = self.cached_tokens = self.new_tokens = 0
        self._engine, self._cache, self._slots = engine, cache, slots
        self._reading: deque[_Reading] = deque()
        self._writing: list[_Row] = []

    @property
    def active(self) -> int:
        """Answers that are being read or written."""
        # A copy, made in one go: other threads ask while this one works.
        return sum(_width(reading.job) for reading in list(self._reading)) + len(self._writing)

    @property
    def busy(self) -> bool:
        """Whether a turn has anything to do."""
        return bool(self.waiting or self._reading or self._writing)

    def turn(self) -> None:
        """One round. A failure ends the jobs that it concerns, never the scheduler."""
        self._drop_cancelled()
        self._admit()
        self._read()
        if self._writing:
            self._write()

    def end(self, error: Exception) -> None:
        """End everything: what has begun to write returns what it has, the rest fails with the error."""
        while self.waiting:
            _fail(self.waiting.popleft(), error)
        for reading in self._reading:
            _fail(reading.job, error)
        for row in self._writing:
            self._finish(row, Written(row.choice, row.answer.close(), None, finish="length"), [row.unread])
        self._reading, self._writing = deque(), []

    def _drop_cancelled(self) -> None:
        """Each list is looked through once: a job that is cancelled meanwhile goes with the next round."""
        for job in [job for job in self.waiting if job.cancelled]:
            self.waiting.remove(job)
            job.leave(None)
        for reading in [reading for reading in self._reading if reading.job.cancelled]:
            self._reading.remove(reading)
            reading.job.leave(reading.context())
        for row in [row for row in self._writing if row.job.cancelled]:
            self._writing.remove(row)
            if row.choice == 0:
                row.job.leave(row.context([row.unread]))

    def _admit(self) -> None:
        while self.waiting and self._fits(self.waiting[0]):
            job = self.waiting.popleft()
            state = self._engine.new_state() if job.start is None else job.start.copy()
            self._reading.append(_Reading(job, state, Trail(job.ids)))

    def _fits(self, job: Job) -> bool:
        active = self.active
        return active == 0 or active + _width(job) <= self._slots

    def _read(self) -> None:
        """The next pieces of prompts, each in its turn, until one pass' worth of tokens is read."""
        budget = READ_AT_ONCE
        while self._reading and budget > 0:
            reading = self._reading.popleft()
            before = reading.at
            try:
                self._advance(reading)
            except Exception as error:
                _fail(reading.job, error)
                continue
            budget -= max(reading.at - before, LEAST_PRICE)
            if reading.at < reading.last:
                self._reading.append(reading)
            else:
                self._begin_writing(reading)

    def _advance(self, reading: _Reading) -> None:
        job = reading.job
        if job.start is None and not job.echo:
            self._skip_known(reading)
        stop = min(reading.border, reading.last)
        if reading.at == stop:
            return
        logits = self._engine.forward(job.ids[reading.at : stop], reading.state, every=job.echo)
        if job.echo:
            reading.scores += score_all(logits, job.ids[reading.at + 1 : stop + 1], job.top or 0)
        reading.at = stop
        if job.start is None and (job.shares or stop % READ_AT_ONCE == 0):
            self._cache.put(reading.trail.key(stop), stop, reading.state)

    def _skip_known(self, reading: _Reading) -> None:
        if reading.at == 0 and (known := self._cache.longest(reading.job.ids[: reading.last])):
            reading.jump(*known)
        # Asked at every piece: of prompts that begin alike and come together, each piece is read by one of them.
        while (border := reading.border) <= reading.last:
            state = self._cache.get(reading.trail.key(border))
            if state is None:
                break
            reading.jump(border, state)

    def _begin_writing(self, reading: _Reading) -> None:
        job = reading.job
        self.prompt_tokens += len(job.ids)
        self.cached_tokens += reading.cached
        job.emit(PromptRead(reading.cached, reading.scores))
        if not job.answers:
            job.leave(reading.context())
        self._writing += [_Row(job, choice, reading.state.copy(), job.ids[-1]) for choice in range(len(job.answers))]

    def _write(self) -> None:
        """One token of every text."""
        rows = self._writing
        try:
            logits_BV = self._engine.step([row.unread for row in rows], [row.state for row in rows])
        except Exception as error:
            for job in {id(row.job): row.job for row in rows}.values():
                _fail(job, error)
            self._writing = []
            return
        self._writing = [row for row, logits in zip(rows, logits_BV, strict=True) if self._extend(row, logits)]

    def _extend(self, row: _Row, logits: FloatArray) -> bool:
        """The next token of a text; whether it goes on."""
        try:
            token, text = row.answer.extend(logits)
        except UnmulError as error:
            row.job.cancelled = True  # its other answers go with the next round
            _fail(row.job, error)
            return False
        if row.job.stopped and row.answer.finish is None:
            text += row.answer.close()
        scored = None if token is None or row.job.top is None else score(logits, token, row.job.top)
        written = Written(row.choice, text, token, scored, row.answer.finish)
        self.new_tokens += token is not None
        if written.finish:
            self._finish(row, written, [] if token is None else [token])
            return False
        row.unread = row.answer.ids[-1]
        row.job.emit(written)
        return True

    def _finish(self, row: _Row, written: Written, unread: list[int]) -> None:
        """The end of an answer. Its context is kept first: who sees the end may go on at once."""
        ids = [*row.job.ids, *row.answer.ids]
        if row.job.start is None and row.job.shares:
            seen = ids[: len(ids) - len(unread)]
            self._cache.put(key_of(seen), len(seen), row.state)
        if row.choice == 0:
            row.job.leave(row.context(unread))
        row.job.emit(written)


def _width(job: Job) -> int:
    return max(1, len(job.answers))


def _fail(job: Job, error: Exception) -> None:
    job.leave(None)
    job.emit(Failed(error))

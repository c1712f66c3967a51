"""The thread that owns the engine: takes jobs from anywhere, turns the scheduler while there is work, ends in order."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence

from unmul.errors import UnmulError, UsageError
from unmul.serve.scheduler import Job, Scheduler

__all__ = ["BusyError", "ClosingError", "Worker"]

LOG = logging.getLogger("unmul.serve")


class BusyError(UnmulError):
    """The queue is full.

    Args:
        retry_after: seconds after which a place is likely.
    """

    def __init__(self, waiting: int, retry_after: int) -> None:
        super().__init__(f"{waiting} requests wait already", f"try again in {retry_after} s")
        self.retry_after = retry_after


class ClosingError(UnmulError):
    """The server is ending."""

    def __init__(self) -> None:
        super().__init__("the server is shutting down", "try again when it runs")


class Worker:
    """Runs a scheduler in a thread of its own.

    Args:
        queue: most jobs that wait for a slot.
    """

    def __init__(self, scheduler: Scheduler, *, queue: int) -> None:
        self.scheduler = scheduler
        self._queue = queue
        self._wake = threading.Condition()
        self._inbox: deque[Job] = deque()
        self._deadline: float | None = None  # set when the worker is to end
        self._turn_s = 0.0  # moving mean
        self._thread = threading.Thread(target=self._run, name="unmul-engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs without a slot."""
        return len(self._inbox) + len(self.scheduler.waiting)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs, all or none.

        Raises:
            UsageError: more than the queue could ever hold.
            BusyError: too many wait.
            ClosingError: the worker is ending.
        """
        if len(jobs) > self._queue:
            raise UsageError(f"{len(jobs)} prompts in one request", f"send at most {self._queue}")
        with self._wake:
            if self._deadline is not None:
                raise ClosingError
            if self.waiting + len(jobs) > self._queue:
                raise BusyError(self.waiting, self._retry_after())
            self._inbox.extend(jobs)
            self._wake.notify()

    def drain(self, seconds: float) -> None:
        """Take no more jobs, and end what has not ended by itself in so many seconds. Does not wait."""
        with self._wake:
            self._deadline = time.monotonic() + seconds
            self._wake.notify()

    def close(self) -> None:
        """End now; returns when the thread has ended. Every job has then had its last event."""
        if self._deadline is None or self._deadline > time.monotonic():
            self.drain(0)
        self._thread.join()

    def _run(self) -> None:
        while self._next():
            start = time.monotonic()
            try:
                self._turn(start)
            except Exception as error:  # ours: it ends the texts, not the server
                LOG.exception("a turn of the scheduler failed")
                self.scheduler.end(error)
            self._turn_s += 0.1 * (time.monotonic() - start - self._turn_s)

    def _turn(self, now: float) -> None:
        if self._deadline is not None and now >= self._deadline:
            self.scheduler.end(ClosingError())
        else:
            self.scheduler.turn()

    def _next(self) -> bool:
        """Wait for work; False where there is none and none may come."""
        with self._wake:
            self._wake.wait_for(lambda: self._inbox or self.scheduler.busy or self._deadline is not None)
            while self._inbox:
                self.scheduler.waiting.append(self._inbox.popleft())
            return self.scheduler.busy

    def _retry_after(self) -> int:
        """A rough guess: one round for each that waits, at least a second, at most a minute."""
        return min(60, max(1, math.ceil(self._turn_s * self.waiting)))

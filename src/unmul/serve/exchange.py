"""Between the engine's thread and one HTTP request: jobs go in, their events come out on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

from unmul.serve.scheduler import Event, Failed, Job, PromptRead, Written
from unmul.serve.worker import Worker

__all__ = ["Exchange"]


class Exchange:
    """The jobs of one request. Made on the event loop; cancel frees what it holds and may come at any time."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._jobs: Sequence[Job] = ()
        self._open = 0  # last events that are still to come

    def sink(self, prompt: int) -> Callable[[Event], None]:
        """Where the worker's thread puts the events of the job of that prompt."""
        return lambda event: self.call(self._events.put_nowait, (prompt, event))

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function on the event loop, from any thread."""
        with suppress(RuntimeError):  # the loop has ended, and whoever listened with it
            self._loop.call_soon_threadsafe(function, *arguments)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue the jobs, all or none; raises BusyError or ClosingError."""
        self._worker.submit(jobs)
        self._jobs = jobs
        self._open = sum(max(1, len(job.answers)) for job in jobs)

    async def events(self, idle_s: float) -> AsyncIterator[tuple[int, PromptRead | Written] | None]:
        """Events with the index of their prompt, to the last; None whenever nothing has come for so long.

        Raises what ended a job without a result.
        """
        while self._open:
            try:
                prompt, event = await asyncio.wait_for(self._events.get(), idle_s)
            except TimeoutError:
                yield None
                continue
            if isinstance(event, Failed):
                raise event.error
            self._open -= self._ends(prompt, event)
            yield prompt, event

    def cancel(self) -> None:
        """Give the jobs' places to others; nothing happens where they have ended."""
        for job in self._jobs:
            job.cancelled = True

    def _ends(self, prompt: int, event: PromptRead | Written) -> bool:
        if isinstance(event, Written):
            return event.finish is not None
        return not self._jobs[prompt].answers

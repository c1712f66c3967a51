"""What a run says: log.jsonl with one object a step, trackers, and a bar on a terminal or plain lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from unmul.files import write_text
from unmul.train.loop import Step
from unmul.train.meter import Meter
from unmul.train.trackers import Tracker

__all__ = ["Log"]

SECONDS_BETWEEN_LINES = 10.0
SHOWN_STEPS = 20  # the speed that is shown is their mean


class Log:
    """Opened for a run that has `done` steps behind it; lines of a longer, lost future are cut from the file.

    `joules` are those of the last line: over all resumptions, None where one of them did not measure.

    Args:
        path: the JSONL file.
        steps: of the whole run.
        meter: what a step costs.
        trackers: receive every figure too, and are closed with the log.
        lines: plain lines instead of a bar, whatever stderr is.
    """

    def __init__(
        self, path: Path, *, done: int, steps: int, meter: Meter, trackers: Sequence[Tracker] = (), lines: bool = False
    ) -> None:
        self._done, self._steps, self._meter, self._trackers = done, steps, meter, trackers
        self._start, self._spoken = time.monotonic(), 0.0
        self._recent: deque[float] = deque(maxlen=SHOWN_STEPS)
        before = _cut(path, done)
        self._seconds_before = before["seconds"]
        self.joules: float | None = before["joules"]
        self._joules_before = self.joules
        self._file = path.open("a", encoding="utf-8")
        self._bar = None if lines or not sys.stderr.isatty() else _bar()
        self._task = self._bar.add_task("training", total=steps, completed=done, figures="") if self._bar else None

    def __enter__(self) -> Log:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        self._file.close()
        for tracker in self._trackers:
            tracker.close()

    def step(self, step: Step, joules: float | None) -> None:
        """Record a step, and show it; joules as in record."""
        seconds, done = time.monotonic() - self._start, step.done
        figures = {"loss": step.loss, "norm": step.norm, "rate": step.rate, **self._meter.figures(step.seconds)}
        self.record(done, figures, joules)
        self._recent.append(step.seconds)
        shown = f"loss {step.loss:.3f}  {self._meter.shown(sum(self._recent) / len(self._recent))}"
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, figures=shown)
        elif seconds - self._spoken >= SECONDS_BETWEEN_LINES or done == self._steps:
            self._spoken = seconds
            left = seconds / (done - self._done) * (self._steps - done)
            self.say(f"step {done}/{self._steps}  {shown}  {left:.0f} s left")

    def record(self, done: int, figures: Mapping[str, float | None], joules: float | None) -> None:
        """Append one object to the file: step, tokens and FLOPs so far, seconds and joules of all resumptions, figures.

        Args:
            joules: since this process began; None where nothing is measured.
        """
        seconds = self._seconds_before + time.monotonic() - self._start
        self.joules = None if joules is None or self._joules_before is None else self._joules_before + joules
        totals = {**self._meter.totals(done), "seconds": round(seconds, 3), "joules": self.joules}
        line = {"step": done, **totals, **figures}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for tracker in self._trackers:
            tracker.record(done, {name: value for name, value in line.items() if name != "step" and value is not None})

    def say(self, line: str) -> None:
        """A line for the reader, above the bar where there is one."""
        if self._bar:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def tokens_per_s(self, done: int) -> float:
        """Mean speed since this process began training, validation included."""
        return (done - self._done) * self._meter.tokens_per_step / max(time.monotonic() - self._start, 1e-9)


def _bar() -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[figures]}"))
    return Progress(*columns, console=Console(stderr=True))


def _cut(path: Path, done: int) -> dict[str, Any]:
    """Drop the lines after step `done`; returns the last one that stays, with joules, None where it has none."""
    nothing = {"seconds": 0.0, "joules": 0.0}
    if not path.exists():
        return nothing
    kept = [line for line in map(_parse, path.read_text("utf-8").splitlines()) if line and line["step"] <= done]
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
    return {"joules": None, **kept[-1]} if kept else nothing


def _parse(line: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(line))
    except ValueError:  # the machine stopped within this line
        return None

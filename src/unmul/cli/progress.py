"""Progress for people: a bar on a terminal, now and then a plain line elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from unmul.cli.output import note

__all__ = ["Progress"]

LINE_EVERY_S = 10.0


class Progress:
    """A known amount of work; use as a context manager and call update with what is done in all."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total = label, max(total, 1)
        self._bar = _bar(label, self._total) if sys.stderr.isatty() else None
        self._last_line = time.monotonic()

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, done: int, remark: str = "") -> None:
        """Show how much is done, with a figure of the moment."""
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=done, remark=remark)
        elif time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._last_line = time.monotonic()
            note(f"{self._label} {done / self._total:.0%} {remark}".rstrip())


def _bar(label: str, total: int) -> "rich.progress.Progress":
    ...

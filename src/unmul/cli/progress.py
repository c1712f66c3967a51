"""Progress for people: a bar on a terminal, now and then a plain line elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from unmul.cli.output import note

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

__all__ = ["Progress"]

LINE_EVERY_S = 10.0


class Progress:
    """A known amount of work; a context manager whose update says how much is done."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total = label, total
        self._bar = _bar(label, total) if sys.stderr.isatty() else None
        self._next_line = time.monotonic() + LINE_EVERY_S

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, done: int, remark: str) -> None:
        """Show how much is done in all, with a figure of the moment."""
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=done, remark=remark)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY_S
            note(f"{self._label} {done / self._total:.0%}, {remark}")


def _bar(label: str, total: int) -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
    bar.add_task(label, total=total, remark="")
    return bar

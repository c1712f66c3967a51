"""What the making of shards says: one line that renews itself on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType

from rich.console import Console

__all__ = ["Progress"]

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts documents and tokens while its block runs, and says on stderr how many they are.

    Args:
        lines: plain lines even on a terminal.
    """

    def __init__(self, *, lines: bool = False) -> None:
        self.documents = self.tokens = self.empty = 0
        self._start = self._spoken = time.monotonic()
        self._status = None if lines or not sys.stderr.isatty() else Console(stderr=True).status("reading text")

    def __enter__(self) -> Progress:
        if self._status:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status:
            self._status.stop()
        if error is None:
            print(f"shards made: {self}", file=sys.stderr, flush=True)

    def __str__(self) -> str:
        seconds = time.monotonic() - self._start
        empty = f", {self.empty:,} empty ones left out" if self.empty else ""
        speed = f"{self.tokens / max(seconds, 1e-9):,.0f} tokens/s"
        return f"{self.documents:,} documents{empty}, {self.tokens:,} tokens in {seconds:,.1f} s, {speed}"

    def kept(self, documents: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """The documents, as side and text, that hold more than white space; counts the others, and time from here."""
        self._start = time.monotonic()
        for side, text in documents:
            if text.strip():
                yield side, text
            else:
                self.empty += 1

    def add(self, tokens: int) -> None:
        """Count one document."""
        self.documents += 1
        self.tokens += tokens
        if time.monotonic() - self._spoken >= (0.2 if self._status else SECONDS_BETWEEN_LINES):
            self._spoken = time.monotonic()
            self.say(f"making shards: {self}")

    def say(self, line: str) -> None:
        """What is being done."""
        if self._status:
            self._status.update(line)
        else:
            print(line, file=sys.stderr, flush=True)

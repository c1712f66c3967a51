"""Where output goes: the result to stdout, everything said about it to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["columns", "emit", "megabytes", "note", "rows"]


def emit(document: Mapping[str, Any]) -> None:
    """Write the one JSON document of a --json run; numbers that JSON cannot hold are refused, not invented."""
    print(json.dumps(document, indent=2, allow_nan=False), flush=True)


def note(line: str) -> None:
    """Say something that is not the result."""
    print(line, file=sys.stderr, flush=True)


def rows(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values as aligned lines."""
    listed = list(pairs)
    width = max(len(name) for name, _ in listed)
    return "\n".join(f"{name:{width}}  {value}" for name, value in listed)


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Lines of words as aligned columns; a line of one word is a title and widens none."""
    widths: dict[int, int] = {}
    for line in lines:
        for place, word in enumerate(line if len(line) > 1 else ()):
            widths[place] = max(widths.get(place, 0), len(word))
    padded = ("  ".join(f"{word:{widths.get(place, 0)}}" for place, word in enumerate(line)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def megabytes(count: int) -> str:
    """A number of bytes for people: 812 B, 41.2 kB, 3.1 MB, 1.36 GB (powers of ten)."""
    for unit, size, digits in (("GB", 10**9, 2), ("MB", 10**6, 1), ("kB", 10**3, 1)):
        if count >= size:
            return f"{count / size:.{digits}f} {unit}"
    return f"{count} B"

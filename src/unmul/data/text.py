"""Plain text files as documents: a line `<|endoftext|>` separates them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unmul.data.compressed import open_lines
from unmul.errors import DataError

__all__ = ["END", "LONGEST", "read_text"]

END = "<|endoftext|>"
LONGEST = 2**28  # characters of a document: encoding takes about 30 bytes of memory for each


def read_text(path: Path) -> Iterator[str]:
    """The documents of a file, empty ones too; the file's end ends the last one.

    A document keeps every byte of its lines; only the separating lines are taken away.
    """
    lines: list[str] = []
    length = 0
    for line in open_lines(path):
        if line.rstrip("\r\n") == END:
            yield "".join(lines)
            lines, length = [], 0
            continue
        lines.append(line)
        length += len(line)
        if length > LONGEST:
            raise DataError(f"{path} has a document of more than {LONGEST:,} characters", f"separate it by {END} lines")
    if lines:
        yield "".join(lines)

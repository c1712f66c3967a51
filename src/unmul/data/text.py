"""Text files as documents: UTF-8, plain or compressed; a line `<|endoftext|>` separates documents."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from unmul.errors import DataError

__all__ = ["END", "fingerprint", "read_documents"]

END = "<|endoftext|>"


def read_documents(paths: Iterable[Path]) -> Iterator[str]:
    """The documents of some files, one at a time; a file's end ends its last document, empty ones are left out.

    A document keeps every byte of its lines; only the separating lines are taken away.
    """
    for path in paths:
        lines: list[str] = []
        for line in _lines(path):
            if line.rstrip("\r\n") != END:
                lines.append(line)
                continue
            yield from _document(lines)
            lines = []
        yield from _document(lines)


def fingerprint(paths: Iterable[Path]) -> str:
    """SHA-256 over the files as stored, in order: what a set of shards was made of."""
    total = hashlib.sha256()
    for path in paths:
        with _checked(path).open("rb") as handle:
            total.update(hashlib.file_digest(handle, "sha256").digest())
    return total.hexdigest()


def _document(lines: list[str]) -> Iterator[str]:
    text = "".join(lines)
    if text.strip():
        yield text


def _lines(path: Path) -> Iterator[str]:
    offset = 0
    try:
        with _open(_checked(path)) as handle:
            for line in handle:
                yield line.decode("utf-8")
                offset += len(line)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 at byte {offset + error.start}", "convert it to UTF-8") from None
    except (lzma.LZMAError, gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{path} is damaged ({error})", "copy or compress it again") from None


def _checked(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"text file {path} does not exist", "give a UTF-8 text file, plain, .xz, .gz or .zst")
    return path


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".xz":
        return lzma.open(path)
    if path.suffix == ".gz":
        return gzip.open(path)  # type: ignore[return-value]  # a GzipFile is one in all but name
    if path.suffix == ".zst":
        return _open_zstandard(path)
    return path.open("rb")


def _open_zstandard(path: Path) -> IO[bytes]:
    try:
        zstd = importlib.import_module("compression.zstd")
    except ModuleNotFoundError:
        raise DataError(f"{path} needs Python 3.14 to be read", f"decompress it: zstd -d {path}") from None
    handle: IO[bytes] = zstd.open(path)
    return handle

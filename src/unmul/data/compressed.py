"""Files as bytes, whatever they are compressed with, and what identifies them."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from unmul.errors import DataError, MissingExtraError

__all__ = ["SUFFIXES", "fingerprint", "open_lines", "require_file"]

SUFFIXES = (".gz", ".xz", ".zst")

Opener = Callable[[Path], Any]


def open_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends, decompressed as its suffix says."""
    offset = 0
    try:
        with _decompressed(path) as handle:
            for line in handle:
                yield line.decode("utf-8")
                offset += len(line)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 at byte {offset + error.start}", "convert it to UTF-8") from None


def fingerprint(paths: Iterable[Path]) -> str:
    """SHA-256 over the files as stored, in order."""
    total = hashlib.sha256()
    for path in paths:
        with require_file(path).open("rb") as handle:
            total.update(hashlib.file_digest(handle, "sha256").digest())
    return total.hexdigest()


def require_file(path: Path) -> Path:
    """The path, if a file is there."""
    if not path.is_file():
        raise DataError(f"text file {path} does not exist", "give a text, JSONL or Parquet file; see docs/data.md")
    return path


@contextmanager
def _decompressed(path: Path) -> Iterator[IO[bytes]]:
    opener, damages = _opener(require_file(path))
    try:
        with opener(path) as handle:
            yield handle
    except damages as error:
        raise DataError(f"{path} is damaged ({error})", "copy or compress it again") from None


def _opener(path: Path) -> tuple[Opener, tuple[type[Exception], ...]]:
    """What opens a file, and what that raises on damaged ones."""
    if path.suffix == ".gz":
        return gzip.open, (gzip.BadGzipFile, zlib.error, EOFError)
    if path.suffix == ".xz":
        return lzma.open, (lzma.LZMAError, EOFError)
    if path.suffix == ".zst":
        zstd = _zstandard()
        return zstd.open, (zstd.ZstdError, EOFError)
    return lambda plain: plain.open("rb"), ()


def _zstandard() -> Any:
    for name in ("compression.zstd", "backports.zstd"):  # the standard library's from Python 3.14
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise MissingExtraError("backports.zstd (for .zst files)", "train")

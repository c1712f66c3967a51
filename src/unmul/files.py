"""Files and folders that appear whole or not at all: write to a temporary name, fsync, rename."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from unmul.errors import CheckpointError

__all__ = ["atomic_file", "atomic_folder", "write_text"]


@contextmanager
def atomic_file(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside path; it takes path's name only when the block ends without an error.

    Raises:
        CheckpointError: the file system refuses (full, read-only, no such folder); nothing is left behind.
    """
    encoding = None if "b" in mode else "utf-8"
    with _naming(path):
        handle = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed below, before the rename
            mode, encoding=encoding, dir=path.parent, prefix=f".{path.name}.tmp-", delete=False
        )
        try:
            with handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            os.chmod(handle.name, 0o666 & ~_umask())
            os.replace(handle.name, path)
        except BaseException:
            Path(handle.name).unlink(missing_ok=True)
            raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Fill a temporary folder beside path; it replaces the folder path only when the block ends without an error.

    Whether an older folder of that name may go is the caller's decision (checkpoint.folder.check_target).

    Raises:
        CheckpointError: the file system refuses (full, read-only, a file in the way); nothing is left behind.
    """
    path = path.resolve()
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.tmp-"))
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            _replace_folder(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_file(path, "w") as handle:
        handle.write(text)


class _Refused(CheckpointError):
    """The file system refused to write; every enclosing target puts its own name in place of a temporary one."""

    def __init__(self, path: Path, cause: OSError) -> None:
        super().__init__(f"{path} cannot be written ({cause.strerror or cause})", "free space, or choose another place")
        self.cause = cause


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _Refused(path, error) from error
    except _Refused as error:
        raise _Refused(path, error.cause) from error.cause


def _replace_folder(new: Path, path: Path) -> None:
    if not path.is_dir():  # a file in the way makes the rename fail, and stays
        os.rename(new, path)
        return
    if _exchanged(new, path):
        shutil.rmtree(new)
        return
    # A folder cannot be renamed over a full one: step aside first, so that one whole version always exists.
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old-"))
    try:
        os.rename(path, aside / path.name)
        os.rename(new, path)
    except BaseException:
        if not path.exists():
            os.rename(aside / path.name, path)
        aside.rmdir()
        raise
    shutil.rmtree(aside)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether the system has exchanged the two names, in one act; Linux can, on most file systems."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current

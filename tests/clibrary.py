"""libunmul, built once for all test processes, and what of it ctypes must know."""

import ctypes
import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["BUILD", "REPOSITORY", "Info", "alone", "built_library"]

REPOSITORY = Path(__file__).resolve().parent.parent
BUILD = REPOSITORY / "build" / "c"


class Info(ctypes.Structure):
    """unmul_model_info."""

    _fields_ = (
        ("layers", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("vocabulary", ctypes.c_int32),
        ("begin_token", ctypes.c_int32),
        ("end_token", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("weight_bytes", ctypes.c_uint64),
        ("state_values", ctypes.c_size_t),
        ("kernels", ctypes.c_char_p),
    )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One test process at a time builds in a folder; the others find it built."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def built_library() -> Path:
    """The shared library of this tree; skips where there is no CMake or compiler."""
    if not shutil.which("cmake") or not shutil.which("c++"):
        pytest.skip("needs cmake and a C++ compiler")
    with alone(BUILD):
        _run("cmake", "-S", REPOSITORY, "-B", BUILD, "-DCMAKE_BUILD_TYPE=Release")
        _run("cmake", "--build", BUILD, "-j", "2")
    return next(BUILD.glob("libunmul.*"))


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

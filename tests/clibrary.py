"""libunmul, built once for all test processes, and csrc/unmul.h through ctypes."""

import ctypes
import fcntl
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

__all__ = [
    "BAD_ARGUMENT",
    "BUILD",
    "CANNOT_READ",
    "DAMAGED",
    "REPOSITORY",
    "UNSUPPORTED",
    "Failed",
    "Info",
    "Library",
    "alone",
    "built_library",
    "data",
]

BAD_ARGUMENT, CANNOT_READ, DAMAGED, UNSUPPORTED = 1, 2, 3, 4  # of unmul_status
REPOSITORY = Path(__file__).resolve().parent.parent
BUILD = REPOSITORY / "build" / f"c-{platform.machine()}"


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


class Failed(Exception):
    """A status of the library, and its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")


class Library:
    """unmul.h with exceptions."""

    def __init__(self, path: Path) -> None:
        self._c = ctypes.CDLL(str(path))
        self._c.unmul_last_error.restype = ctypes.c_char_p
        self._c.unmul_model_get_info.restype = Info
        for name in ("model", "sampler", "tokenizer"):
            getattr(self._c, f"unmul_{name}_free").argtypes = (ctypes.c_void_p,)

    def call(self, name: str, *arguments: object) -> None:
        status = getattr(self._c, "unmul_" + name)(*arguments)
        if status:
            raise Failed(status, self._c.unmul_last_error().decode())

    def new(self, name: str, *arguments: object) -> ctypes.c_void_p:
        """The object that a function gives through its last pointer."""
        found = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(found))
        return found

    def free(self, kind: str, thing: ctypes.c_void_p) -> None:
        getattr(self._c, f"unmul_{kind}_free")(thing)

    def open(self, folder: Path, threads: int = 1) -> ctypes.c_void_p:
        return self.new("model_open", os.fsencode(folder), threads)

    def info(self, model: ctypes.c_void_p) -> Info:
        return self._c.unmul_model_get_info(model)

    def forward(self, model: ctypes.c_void_p, ids: list[int], state: np.ndarray, rows: int) -> np.ndarray:
        logits = np.full((rows, self.info(model).vocabulary), np.nan, np.float32)
        tokens = np.array(ids, np.int32)
        size = ctypes.c_size_t(len(ids))
        self.call("forward", model, data(state), data(tokens), size, data(logits), ctypes.c_size_t(rows))
        return logits

    def encode(self, tokenizer: ctypes.c_void_p, text: str) -> list[int]:
        raw, count = text.encode(), ctypes.c_size_t()
        ids = np.empty(len(raw), np.int32)
        size = ctypes.c_size_t(len(raw))
        self.call("encode", tokenizer, raw, size, data(ids), size, ctypes.byref(count))
        return ids[: count.value].tolist()

    def token_bytes(self, tokenizer: ctypes.c_void_p, token: int) -> bytes:
        start, size = ctypes.c_void_p(), ctypes.c_size_t()
        self.call("token_bytes", tokenizer, token, ctypes.byref(start), ctypes.byref(size))
        return ctypes.string_at(start.value, size.value) if size.value else b""


def data(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


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

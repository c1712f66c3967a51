"""The GPU of the tests: the engine's own CUDA sources, compiled for this CPU over engine/cuda/emulator."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from unmul.engine.cuda.compile import SOURCES, Defines

__all__ = ["EmulatedDevice"]

COMPILER = shutil.which("g++")
FLAGS = ("-std=c++20", "-O2", "-ffp-contract=off", "-fno-math-errno", "-shared", "-fPIC", "-w")
SHIM = Path(__file__).parent / "engine" / "cuda" / "emulator" / "primitives.cuh"
# Which structures each kernel takes; the launcher calls it with what their addresses point at.
STRUCTS = {"pack.cu": "Matrix", "decode.cu": "Model, Workspace, Call", "prefill.cu": "Model, Workspace, Chunk"}


class EmulatedDevice:
    """engine.cuda.device.Device on this CPU, with more multiprocessors than the narrow model has units of its
    width. Fresh memory that a kernel must not count on."""

    name = "emulated"

    def __init__(self, folder: Path, *, multiprocessors: int = 4, shared_bytes: int = 227 << 10) -> None:
        self.multiprocessors, self.shared_bytes = multiprocessors, shared_bytes
        self._folder = folder
        self._memory: dict[int, npt.NDArray[np.uint8]] = {}

    def allocate(self, size: int) -> int:
        block = np.zeros(size + 256, np.uint8)
        address = block.ctypes.data + -block.ctypes.data % 256
        self._memory[address] = block
        return address

    def free(self, address: int) -> None:
        del self._memory[address]

    def upload(self, address: int, values: npt.NDArray[Any]) -> None:
        values = np.ascontiguousarray(values)
        ctypes.memmove(address, values.ctypes.data, values.nbytes)

    def download(self, values: npt.NDArray[Any], address: int) -> None:
        assert values.flags.c_contiguous
        ctypes.memmove(values.ctypes.data, address, values.nbytes)

    def kernel(self, source: str, name: str, defines: Defines) -> Any:
        function = getattr(library(self._folder, source, tuple(sorted(defines.items()))), f"launch_{name}")
        function.restype = ctypes.c_bool

        def launch(
            grid: tuple[int, int, int], threads: int, shared: int, *arguments: Any, together: bool = False
        ) -> None:
            pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
            ended = function((ctypes.c_uint * 3)(*grid), threads, ctypes.c_size_t(shared), together, pointers)
            assert ended, f"the threads of {name} wait for each other"

        return launch


@cache
def library(folder: Path, source: str, defines: tuple[tuple[str, int | str], ...]) -> ctypes.CDLL:
    if COMPILER is None:
        pytest.skip("no g++ to emulate a GPU with")
    work = folder / hashlib.sha256(repr((source, defines)).encode()).hexdigest()[:16]
    work.mkdir(parents=True)
    for path in (*SOURCES.glob("*.cu"), *SOURCES.glob("*.cuh"), SHIM):  # the shim takes its original's place
        shutil.copy(path, work)
    (work / "main.cpp").write_text(launchers(source))
    flags = [*FLAGS, *(f"-D{name}={value}" for name, value in defines)]
    subprocess.run([COMPILER, *flags, "main.cpp", "-o", "kernels.so"], cwd=work, check=True)
    return ctypes.CDLL(str(work / "kernels.so"))


def launchers(source: str) -> str:
    """A launcher for each kernel of a source."""
    types = STRUCTS[source].split(", ")
    names = [line.split(") ")[1].split("(")[0] for line in kernel_lines(source)]
    arguments = ", ".join(f"*static_cast<const {kind}*>(arguments[{k}])" for k, kind in enumerate(types))
    calls = "".join(
        f"""
        extern "C" bool launch_{name}(
            const unsigned* grid, int threads, size_t shared, bool together, void** arguments) {{
            const auto kernel = [&] {{ {name}({arguments}); }};
            return emulator::run({{grid[0], grid[1], grid[2]}}, threads, shared, together, kernel);
        }}"""
        for name in names
    )
    return f'#include "{source}"\n{calls}\n'


def kernel_lines(source: str) -> list[str]:
    return [line for line in (SOURCES / source).read_text().splitlines() if line.startswith("UNMUL_KERNEL(")]

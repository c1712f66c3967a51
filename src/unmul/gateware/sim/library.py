"""Verilog as a shared library: a simulator makes C++ of it, a compiler the rest; kept by content."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from unmul.errors import GatewareError
from unmul.files import atomic_folder
from unmul.gateware.parameters import Parameters
from unmul.gateware.tools import run_tool
from unmul.gateware.verilog import core_verilog

__all__ = ["SOURCE", "Simulator", "Translation", "cache_folder", "core_library", "simulated_library"]

SIM = Path(__file__).parent
SHIM = SIM / "shim.cpp"
SOURCE = "core.v"  # what a simulator finds in its folder
LIBRARY = "core.so"
COMPILER_FLAGS = ("-O3", "-march=native", "-fno-semantic-interposition", "-std=c++20", "-fPIC", "-shared")


class Translation(NamedTuple):
    """What a simulator made of core.v: C++ files to compile beside the shim, and folders of headers."""

    sources: Sequence[Path]
    includes: Sequence[Path]


@dataclass(frozen=True, slots=True)
class Simulator:
    """A tool that makes C++ of Verilog: its flags, and how to call it on the folder that holds core.v.

    The header {name}.h beside the shim gives what it makes as `Core`.
    """

    name: str
    flags: tuple[str, ...]
    translate: Callable[[Path], Translation]

    @property
    def header(self) -> Path:
        """What the shim includes."""
        return SIM / f"{self.name}.h"


def cache_folder() -> Path:
    """Where compiled cores are kept: XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unmul" / "rtl"


@functools.cache
def core_library(parameters: Parameters, simulator: Simulator) -> ctypes.CDLL:
    """The compiled core; compiling it takes about a minute, and is done once for the same Verilog.

    Raises:
        GatewareError: there is no C++ compiler, or it or the simulator fails.
        MissingExtraError: the simulator or Amaranth is not installed.
    """
    return simulated_library(core_verilog(parameters, held=True), SHIM, simulator)


def simulated_library(verilog: str, shim: Path, simulator: Simulator) -> ctypes.CDLL:
    """Verilog with the top module TOP beneath the C++ of `shim`, which finds the headers beside this file.

    Raises:
        GatewareError: there is no C++ compiler, or it or the simulator fails.
        MissingExtraError: the simulator is not installed.
    """
    headers = [each.read_text() for each in sorted(SIM.glob("*.h"))]
    texts = [verilog, shim.read_text(), *headers, simulator.name, *simulator.flags, *COMPILER_FLAGS, _processor()]
    folder = cache_folder() / hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]
    if not (folder / LIBRARY).exists():
        with atomic_folder(folder) as building:
            (building / SOURCE).write_text(verilog)
            _compile(simulator, shim, building)
    return ctypes.CDLL(str(folder / LIBRARY))


def _compile(simulator: Simulator, shim: Path, folder: Path) -> None:
    kept = {SOURCE, LIBRARY}
    made = simulator.translate(folder)
    includes = [f"-I{each}" for each in (SIM, folder, *made.includes)]
    sources = [str(each) for each in (*made.sources, shim)]
    device = f'-DDEVICE="{simulator.header.name}"'
    run_tool([_compiler(), *COMPILER_FLAGS, device, *includes, *sources, "-o", LIBRARY], folder)
    for each in folder.iterdir():
        if each.name not in kept:
            each.unlink()


def _processor() -> str:
    """What the compiler makes of this processor, as the macros that it defines: another one may not run the library."""
    return run_tool([_compiler(), "-march=native", "-dM", "-E", "-x", "c++", os.devnull], SIM)


def _compiler() -> str:
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not found:
        raise GatewareError("there is no C++ compiler to simulate with", "install g++, or set CXX")
    return found

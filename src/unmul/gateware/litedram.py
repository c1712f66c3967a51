"""LiteDRAM, generated for a board: a controller of DDR3 with its pins' cells, and what its start must be told.

It has no processor: whoever is at its registers starts the part and trains the pins, as ddr3.py does.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from unmul.gateware.tools import package_folder, run_tool

__all__ = ["MODULE", "VERILOG", "Ddr3Settings", "InitStep", "generate"]

MODULE = "litedram_core"
VERILOG = f"{MODULE}.v"
CRYSTAL_MHZ = 100
START_MHZ = 25  # of the clock that only starts the pins' delay line

# ECPIX-5's part, as litex-boards has it.
CONFIGURATION = {
    "cpu": None,
    "device": "LFE5UM5G-85F-8BG554I",
    "memtype": "DDR3",
    "sdram_module": "MT41K256M16",
    "sdram_module_nb": 2,  # bytes of width
    "sdram_rank_nb": 1,
    "sdram_phy": "ECP5DDRPHY",
    "input_clk_freq": CRYSTAL_MHZ * 1e6,
    "init_clk_freq": START_MHZ * 1e6,
    "user_ports": {"0": {"type": "native"}},
}

_STEP = re.compile(
    r"/\* (?P<name>[^*]*) \*/\s*sdram_dfii_pi0_address_write\((?P<address>\w+)\);\s*"
    r"sdram_dfii_pi0_baddress_write\((?P<bank>\w+)\);\s*(?P<call>\w+)\((?P<bits>[\w|]+)\);(?:\s*cdelay\((?P<cycles>\d+)\);)?"
)
_DEFINE = re.compile(r"^#define (\w+) (0x[\da-f]+|\d+)$", re.MULTILINE)
_INPUT_PINS = re.compile(r"\binput( +wire +\S* *ddram_dqs?(?:_p)?,)")
_COMMENT = re.compile(r"^//[^\n]*\n|/\*.*?\*/", re.MULTILINE | re.DOTALL)
_DIVISOR = re.compile(r"\.(CLK\w+_DIV)\s*\(\d+'d(\d+)\)")


class InitStep(NamedTuple):
    """A step of the part's start: a word for its control lines, or a command, then cycles to wait."""

    name: str
    command: bool
    bits: int
    address: int
    bank: int
    cycles: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Ddr3Settings:
    """What LiteDRAM tells its firmware: where its registers are, how its pins can be moved, and how the part starts."""

    registers: Mapping[str, int]  # the address of the first word of each
    modules: int  # bytes of width, each with a strobe
    bitslips: int
    delays: int
    read_phase: int
    write_phase: int
    steps: tuple[InitStep, ...]

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Ddr3Settings:
        """Read the "ddr3" of a bitstream's report."""
        return cls(**{**raw, "steps": tuple(InitStep(*step) for step in raw["steps"])})

    def to_dict(self) -> dict[str, Any]:
        """The "ddr3" of a bitstream's report."""
        return asdict(self)


def generate(clock_mhz: float, folder: Path) -> tuple[Ddr3Settings, float]:
    """Write VERILOG, LiteDRAM for ECPIX-5; its settings, and the nearest clock that its PLL makes, in MHz.

    Raises:
        GatewareError: no PLL makes this clock.
        MissingExtraError: LiteDRAM is not installed.
    """
    package_folder("litedram")
    (folder / "litedram.yml").write_text(json.dumps(CONFIGURATION | {"sys_clk_freq": clock_mhz * 1e6}))
    outputs = ["--output-dir", "litedram", "--csr-json", "litedram.json", "--name", MODULE]
    call = [sys.executable, "-m", "litedram.gen", "litedram.yml", *outputs]
    run_tool(call, folder, name="litedram.gen", remedy=f"choose another --clock than {clock_mhz:g}")
    verilog = (folder / "litedram" / "gateware" / VERILOG).read_text()
    # LiteX dates its comments, lists cells in any order there, and calls pins that its own cells drive inputs.
    (folder / VERILOG).write_text(_INPUT_PINS.sub(r"inout\1", _COMMENT.sub("", verilog)))
    header = folder / "litedram" / "software" / "include" / "generated" / "sdram_phy.h"
    registers = json.loads((folder / "litedram.json").read_text())["csr_registers"]
    return _settings(registers, header.read_text()), _clock(verilog)


def _settings(registers: Mapping[str, Any], header: str) -> Ddr3Settings:
    numbers = {name: int(value, 0) for name, value in _DEFINE.findall(header)}
    return Ddr3Settings(
        registers={name: each["addr"] // 4 for name, each in registers.items()},
        modules=numbers["SDRAM_PHY_MODULES"],
        bitslips=numbers["SDRAM_PHY_BITSLIPS"],
        delays=numbers["SDRAM_PHY_DELAYS"],
        read_phase=numbers["SDRAM_PHY_RDPHASE"],
        write_phase=numbers["SDRAM_PHY_WRPHASE"],
        steps=tuple(_step(found, numbers) for found in _STEP.finditer(header)),
    )


def _step(found: re.Match[str], numbers: Mapping[str, int]) -> InitStep:
    return InitStep(
        name=found["name"],
        command=found["call"] == "command_p0",
        bits=sum(numbers[each] for each in found["bits"].split("|")),
        address=int(found["address"], 0),
        bank=int(found["bank"], 0),
        cycles=int(found["cycles"] or 0),
    )


def _clock(verilog: str) -> float:
    """Of the controller, out of its PLL's divisors: half of what the pins have, which is the PLL's first output."""
    divisors = {name: int(value) for name, value in _DIVISOR.findall(verilog)}
    oscillator = CRYSTAL_MHZ / divisors["CLKI_DIV"] * divisors["CLKFB_DIV"] * divisors["CLKOS2_DIV"]
    return oscillator / divisors["CLKOP_DIV"] / 2

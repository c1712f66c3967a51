"""The start of a board's DDR3 by its host, down the line: the part's modes, then where each byte's pins are read.

LiteDRAM leaves both to a processor. Ours is the host: each step is a few words of protocol.Space.CONTROL. A byte's pins
are read after one of eight delays of their strobe's window and from one of four bits on; what works is found by trying.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from enum import IntFlag
from typing import NamedTuple

from unmul.errors import GatewareError
from unmul.gateware.host import Board
from unmul.gateware.litedram import Ddr3Settings
from unmul.gateware.protocol import Space

__all__ = ["Reading", "start_ddr3"]

HARDWARE = 1  # the pins are the controller's
BURST_BYTES = 16
PATTERNS = 3  # that a setting must read: one may be right by chance
CHECKED_BYTES = 1024  # through the controller, at the end
CYCLES_A_WORD = 320  # at least, that a word of an answer takes on the fastest line, of eight cycles a bit
REMEDY = "switch the board off and on; if it stays so, choose a lower --clock"


class _Command(IntFlag):
    """A command on one of LiteDRAM's phases, and whether data go with it."""

    CS = 1
    WE = 2
    CAS = 4
    RAS = 8
    WRITE_DATA = 16
    READ_DATA = 32


ACTIVATE = _Command.CS | _Command.RAS
PRECHARGE = _Command.CS | _Command.RAS | _Command.WE
WRITE = _Command.CS | _Command.CAS | _Command.WE | _Command.WRITE_DATA
READ = _Command.CS | _Command.CAS | _Command.READ_DATA


class Reading(NamedTuple):
    """How the pins of a byte are read, and how many delays in a row would have done, of which this is the middle."""

    bitslip: int
    delay: int
    width: int


def start_ddr3(board: Board, settings: Ddr3Settings) -> list[Reading]:
    """Start the part, train its pins, and give it to the controller; the reading of each byte.

    What the memory held is lost.

    Raises:
        GatewareError: no setting reads a byte's pins, or the memory does not keep what is written to it.
    """
    part = _Part(board, settings)
    part.write("ddrctrl_init_done", 0)
    part.start()
    readings = _choose(_try_all(part), settings.modules)
    for module, reading in enumerate(readings):
        part.move(1 << module, reading.bitslip, reading.delay)
    part.write("sdram_dfii_control", HARDWARE)
    part.write("ddrctrl_init_done", 1)
    _check_memory(board)
    return readings


class _Part:
    """LiteDRAM's registers of the part's pins."""

    def __init__(self, board: Board, settings: Ddr3Settings) -> None:
        self._board, self.settings = board, settings
        self._all = (1 << settings.modules) - 1

    def write(self, register: str, *words: int) -> None:
        content = struct.pack(f"<{len(words)}I", *words)
        self._board.write(Space.CONTROL, self.settings.registers[register], content)

    def read(self, register: str, count: int) -> bytes:
        return self._board.read(Space.CONTROL, self.settings.registers[register], count)

    def give(self, phase: int, command: int, address: int = 0, bank: int = 0) -> None:
        """A command; the line is slower than whatever must lie between two."""
        self.write(f"sdram_dfii_pi{phase}_address", address, bank)
        self.write(f"sdram_dfii_pi{phase}_command", command, 1)

    def start(self) -> None:
        """What LiteDRAM lists: clock enable, mode registers, calibration of the drivers."""
        for step in self.settings.steps:
            if step.command:
                self.give(0, step.bits, step.address, step.bank)
            else:
                self.write("sdram_dfii_control", step.bits)
            self._board.read(Space.STATUS, 0, -(-step.cycles // CYCLES_A_WORD))

    def move(self, modules: int, bitslip: int, delay: int) -> None:
        """Set how bytes are read, each a bit of `modules`. Strobes stand still meanwhile, and start again together."""
        self.write("ddrphy_dly_sel", modules)
        pulses = ["bitslip_rst", *["bitslip"] * bitslip, "rst", *["inc"] * delay]
        for pulse in pulses:
            self.write(f"ddrphy_rdly_dq_{pulse}", 1)
        for each in (0, self._all, 0):
            self.write("ddrphy_dly_sel", each)

    def read_back(self, pattern: bytes) -> tuple[bytes, int]:
        """Write a burst and read it; what came, and a bit for each module whose strobe was seen as a burst."""
        settings, half = self.settings, len(pattern) // 2
        self.give(0, ACTIVATE)
        for phase in range(2):
            self.write(f"sdram_dfii_pi{phase}_wrdata", *struct.unpack("<2I", pattern[phase * half :][:half]))
        self.give(settings.write_phase, WRITE)
        self.write("ddrphy_burstdet_clr", 1)
        self.give(settings.read_phase, READ)
        found = b"".join(self.read(f"sdram_dfii_pi{phase}_rddata", half // 4) for phase in range(2))
        seen = self.read("ddrphy_burstdet_seen", 1)[0]
        self.give(0, PRECHARGE)
        return found, seen


def _try_all(part: _Part) -> list[list[list[bool]]]:
    """Whether what was written is read, for each bit slip, each delay and each module."""
    source, settings = random.Random(0), part.settings
    patterns = [source.randbytes(BURST_BYTES) for _ in range(PATTERNS)]
    return [
        [_try(part, bitslip, delay, patterns) for delay in range(settings.delays)]
        for bitslip in range(settings.bitslips)
    ]


def _try(part: _Part, bitslip: int, delay: int, patterns: Sequence[bytes]) -> list[bool]:
    count = part.settings.modules
    part.move((1 << count) - 1, bitslip, delay)
    came = [(pattern, *part.read_back(pattern)) for pattern in patterns]
    return [
        all(found[module::count] == pattern[module::count] and seen >> module & 1 for pattern, found, seen in came)
        for module in range(count)
    ]


def _choose(works: Sequence[Sequence[Sequence[bool]]], modules: int) -> list[Reading]:
    """The middle of the most delays in a row of each module."""
    readings = []
    for module in range(modules):
        rows = [_longest(bitslip, [each[module] for each in row]) for bitslip, row in enumerate(works)]
        reading = max(rows, key=lambda each: each.width)
        if not reading.width:
            raise GatewareError(f"byte {module} of the board's DDR3 cannot be read at any setting", REMEDY)
        readings.append(reading)
    return readings


def _longest(bitslip: int, works: Sequence[bool]) -> Reading:
    best = Reading(bitslip, 0, 0)
    for start in range(len(works)):
        width = next((count for count, each in enumerate(works[start:]) if not each), len(works) - start)
        if width > best.width:
            best = Reading(bitslip, start + width // 2, width)
    return best


def _check_memory(board: Board) -> None:
    content = random.Random(1).randbytes(CHECKED_BYTES)
    board.write(Space.MEMORY, 0, content)
    if board.read(Space.MEMORY, 0, CHECKED_BYTES // BURST_BYTES) != content:
        raise GatewareError("the board's DDR3 does not keep what is written to it", REMEDY)

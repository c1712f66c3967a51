"""The start of DDR3 by its host, before registers in Python: what is chosen, and what is told when nothing works."""

import struct

import pytest

from unmul.errors import GatewareError
from unmul.gateware.ddr3 import Reading, start_ddr3
from unmul.gateware.litedram import Ddr3Settings, InitStep
from unmul.gateware.protocol import Space

NAMES = [
    "ddrctrl_init_done", "ddrphy_dly_sel", "ddrphy_rdly_dq_rst", "ddrphy_rdly_dq_inc", "ddrphy_rdly_dq_bitslip_rst",
    "ddrphy_rdly_dq_bitslip", "ddrphy_burstdet_clr", "ddrphy_burstdet_seen", "sdram_dfii_control",
]  # fmt: skip
PHASE = {"command": 1, "command_issue": 1, "address": 1, "baddress": 1, "wrdata": 2, "rddata": 2}
MODES = InitStep("modes", True, 15, 512, 2, 700)
WRITE, READ, PRECHARGE = 0b10111, 0b100101, 0b1011


def settings() -> Ddr3Settings:
    registers, at = {name: place for place, name in enumerate(NAMES)}, len(NAMES)
    for phase in range(2):
        for name, words in PHASE.items():
            registers[f"sdram_dfii_pi{phase}_{name}"], at = at, at + words
    control = InitStep("enable", False, 14, 0, 0, 0)
    return Ddr3Settings(
        registers=registers, modules=2, bitslips=4, delays=8, read_phase=0, write_phase=1, steps=(control, MODES)
    )


class Registers:
    """In place of a host's Board: registers, with bytes that are read at some settings alone."""

    def __init__(self, working: list[set[tuple[int, int]]], *, keeps: bool = True) -> None:
        self.working, self.keeps, self.settings = working, keeps, settings()
        self.words, self.memory, self.commands = [0] * 64, b"", []
        self.slips, self.delays, self.waited = [0, 0], [0, 0], 0

    def place(self, name: str) -> int:
        return self.settings.registers[name]

    def write(self, space: Space, address: int, content: bytes) -> None:
        if space is Space.MEMORY:
            self.memory = content if self.keeps else bytes(len(content))
            return
        for word, (value,) in enumerate(struct.iter_unpack("<I", content)):
            self.words[address + word] = value
            self.react(address + word)

    def react(self, address: int) -> None:
        chosen = [module for module in range(2) if self.words[self.place("ddrphy_dly_sel")] >> module & 1]
        for name, values, change in (
            ("rst", self.delays, 0), ("inc", self.delays, 1),
            ("bitslip_rst", self.slips, 0), ("bitslip", self.slips, 1),
        ):  # fmt: skip
            if address == self.place(f"ddrphy_rdly_dq_{name}"):
                for module in chosen:
                    values[module] = (values[module] + 1) * change
        for phase in range(2):
            if address == self.place(f"sdram_dfii_pi{phase}_command_issue"):
                self.command(phase, self.words[self.place(f"sdram_dfii_pi{phase}_command")])

    def command(self, phase: int, bits: int) -> None:
        self.commands.append((phase, bits))
        if bits != READ:
            return
        seen = 0
        for module in range(2):
            works = (self.slips[module], self.delays[module]) in self.working[module]
            seen |= works << module
            mask = 0x00FF00FF << 8 * module
            for half in range(2):
                source = self.words[self.place(f"sdram_dfii_pi{half}_wrdata") :][:2]
                target = self.place(f"sdram_dfii_pi{half}_rddata")
                for word, value in enumerate(source):
                    right = value if works else ~value
                    self.words[target + word] = (self.words[target + word] & ~mask) | (right & mask)
        self.words[self.place("ddrphy_burstdet_seen")] = seen

    def read(self, space: Space, address: int, count: int) -> bytes:
        if space is Space.STATUS:
            self.waited += count
            return bytes(4 * count)
        if space is Space.MEMORY:
            return self.memory
        return struct.pack(f"<{count}I", *self.words[address : address + count])


def test_each_byte_is_set_to_the_middle_of_its_longest_row():
    board = Registers([{(1, 0), (2, 3), (2, 4), (2, 5)}, {(3, each) for each in range(4, 8)}])
    assert start_ddr3(board, board.settings) == [Reading(2, 4, 3), Reading(3, 6, 4)]
    assert (board.slips, board.delays) == ([2, 3], [4, 6])
    assert board.words[board.place("sdram_dfii_control")] == 1
    assert board.words[board.place("ddrctrl_init_done")] == 1


def test_the_parts_start_comes_first_and_waits_on_the_line():
    board = Registers([{(0, 0)}, {(0, 0)}])
    start_ddr3(board, board.settings)
    assert board.commands[0] == (0, MODES.bits)
    assert board.waited * 320 >= MODES.cycles
    assert board.commands[2:5] == [(1, WRITE), (0, READ), (0, PRECHARGE)]


def test_a_byte_that_no_setting_reads_is_named():
    board = Registers([{(0, 0)}, set()])
    with pytest.raises(GatewareError, match="byte 1 of the board's DDR3 cannot be read at any setting"):
        start_ddr3(board, board.settings)
    assert board.words[board.place("ddrctrl_init_done")] == 0


def test_a_memory_that_forgets_is_told():
    board = Registers([{(0, 0)}, {(0, 0)}], keeps=False)
    with pytest.raises(GatewareError, match="does not keep what is written"):
        start_ddr3(board, board.settings)

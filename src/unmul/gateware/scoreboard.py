"""The scoreboard: which unit runs, and which registers it owns until it is done."""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.isa import INSTRUCTIONS
from unmul.gateware.operation import either, field, is_one_of
from unmul.gateware.parameters import QUANTISED_REGISTERS, SCALAR_REGISTERS, VECTOR_REGISTERS
from unmul.gateware.pipeline import register

__all__ = ["UNITS", "Scoreboard"]

UNITS = ("stream", "norm", "row")
_FILES = {
    ("vd", "va", "vb"): VECTOR_REGISTERS,
    ("qd", "qa"): QUANTISED_REGISTERS,
    ("sd", "sa", "sb"): SCALAR_REGISTERS,
}
_TAKEN_AT_ISSUE = ("sa", "sb")  # a unit in flight has its own copy of them


class Scoreboard(wiring.Component):
    """Members: word, an instruction that held still for a cycle; issue, give it to its unit; and for each unit done,
    busy, and owned, the vector registers that it has. occupied and conflict say why the instruction must not issue.
    """

    def __init__(self) -> None:
        ports = {"word": In(64), "issue": In(1), "occupied": Out(1), "conflict": Out(1)}
        for unit in UNITS:
            ports |= {f"{unit}_done": In(1), f"{unit}_busy": Out(1), f"{unit}_owned": Out(VECTOR_REGISTERS)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        needs = register(m, self._registers(lambda name: True))
        owns = register(m, self._registers(lambda name: name not in _TAKEN_AT_ISSUE))
        owned = [self._unit(m, unit, owns) for unit in UNITS]
        m.d.comb += self.conflict.eq((either(owned) & needs).any())
        return m

    def _registers(self, wanted: Callable[[str], bool]) -> Value:
        """A bit for each register of all files that the instruction names in one of the fields wanted."""
        return Cat(
            either([self._has(name) << field(self.word, name) for name in names if wanted(name)])[:size]
            for names, size in _FILES.items()
        )

    def _has(self, name: str) -> Value:
        return is_one_of(
            field(self.word, "opcode"), *(key for key, each in INSTRUCTIONS.items() if name in each.fields)
        )

    def _unit(self, m: Module, unit: str, owns: Value) -> Value:
        """Keep what a unit owns."""
        runs = (key for key, each in INSTRUCTIONS.items() if each.unit == unit)
        mine = register(m, is_one_of(field(self.word, "opcode"), *runs))
        owned, busy = Signal(len(owns)), getattr(self, f"{unit}_busy")
        with m.If(getattr(self, f"{unit}_done")):
            m.d.sync += [owned.eq(0), busy.eq(0)]
        with m.If(self.issue & mine):
            m.d.sync += [owned.eq(owns), busy.eq(1)]
        with m.If(mine & busy):
            m.d.comb += self.occupied.eq(1)
        m.d.comb += getattr(self, f"{unit}_owned").eq(owned)
        return owned

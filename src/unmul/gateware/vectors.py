"""The vector registers: one block RAM each, shared by units that never want the same one at the same time.

The sequencer gives a register to one unit at a time, so a register's ports follow whoever owns it. Every register
carries the OR of v ^ (v >> 31) over its last write, whose bit length is the contract's `top`.
"""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.memory import BlockRam
from unmul.gateware.operation import ELEMENT, VectorAccess, either
from unmul.gateware.parameters import VECTOR_REGISTERS
from unmul.gateware.pipeline import register

__all__ = ["OWNERSHIP", "READ_LATENCY", "WRITE_LATENCY", "VectorFile"]

READ_LATENCY = 4  # block RAM, its output register, then the choice among the eight in two steps
WRITE_LATENCY = 2  # from a unit's write to the block RAM and to `seen`
OWNERSHIP = data.StructLayout({"va": 3, "vb": 3, "vd": 3, "owned": VECTOR_REGISTERS, "clear": 1})


class VectorFile(wiring.Component):
    """All vector registers behind one port a unit.

    Members, for each unit: access; owner, which registers it has and reads and writes, and whether this cycle begins
    to write vd afresh. seen, the OR of magnitudes of each register.
    """

    def __init__(self, depth: int, units: int) -> None:
        self._depth, self._units = depth, range(units)
        access = {f"access{unit}": Out(VectorAccess(depth)).flip() for unit in self._units}
        owners = {f"owner{unit}": In(OWNERSHIP) for unit in self._units}
        super().__init__({**access, **owners, "seen": Out(data.ArrayLayout(31, VECTOR_REGISTERS))})

    def access(self, unit: int) -> wiring.PureInterface:
        """The port of a unit."""
        return getattr(self, f"access{unit}")

    def owner(self, unit: int) -> data.View:
        """What a unit owns."""
        return getattr(self, f"owner{unit}")

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words = [self._register(m, number) for number in range(VECTOR_REGISTERS)]
        for unit in self._units:
            access, owner = self.access(unit), self.owner(unit)
            m.d.comb += [access.a.eq(_select(m, words, owner.va)), access.b.eq(_select(m, words, owner.vb))]
        return m

    def _register(self, m: Module, number: int) -> Value:
        m.submodules[f"v{number}"] = ram = BlockRam(ELEMENT.width, self._depth)
        accesses = [self.access(unit) for unit in self._units]
        owns = [self.owner(unit).owned[number] for unit in self._units]
        mine = [self.owner(unit).vd == number for unit in self._units]
        writes = [own & vd & access.write for own, vd, access in zip(owns, mine, accesses, strict=True)]
        clears = [own & vd & self.owner(unit).clear for unit, own, vd in zip(self._units, owns, mine, strict=True)]
        m.d.comb += ram.read_address.eq(_choose(owns, [access.read_address for access in accesses]))
        m.d.sync += [
            ram.write_address.eq(_choose(owns, [access.write_address for access in accesses])),
            ram.write_data.eq(_choose(owns, [access.write_data for access in accesses])),
            ram.write_enable.eq(either(writes)),
        ]
        self._track(m, number, ram, either(clears))
        return register(m, ram.read_data.as_signed())

    def _track(self, m: Module, number: int, ram: BlockRam, clear: Value) -> None:
        size = ram.write_data[:31] ^ ram.write_data[31].replicate(31)
        with m.If(register(m, clear)):
            m.d.sync += self.seen[number].eq(0)
        with m.Elif(ram.write_enable):
            m.d.sync += self.seen[number].eq(self.seen[number] | size)


def _select(m: Module, words: list[Value], number: Value) -> Value:
    """One of the eight, two cycles later: their RAMs lie too far apart for one step. number must hold still."""
    lower, upper = (register(m, Array(words[half : half + 4])[number[:2]]) for half in (0, 4))
    return register(m, Mux(number[2], upper, lower))


def _choose(chosen: list[Value], values: list[Value]) -> Value:
    """The value whose unit is chosen; the last one's where none is."""
    result = values[-1]
    for choice, value in zip(chosen[:-1], values[:-1], strict=True):
        result = Mux(choice, value, result)
    return result

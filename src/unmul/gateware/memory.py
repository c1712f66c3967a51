"""Block RAM, as the synthesiser can infer it without a LUT or flip-flop more.

Amaranth's synchronous read port promises the old data when the same address is written; ECP5's RAM does not, and yosys
pays for the promise per bit. So: a combinational port, a register behind it, and attributes that waive the promise.
The reader must not depend on what a read returns in the cycle in which its address is written. The RAM is slow: a plain
register that alone reads it costs nothing, for netlist.py moves it into the RAM, and makes its data come early.

A deep memory has a power of two of words: of 32 bits, yosys then puts a few bits of all of them into each RAM. Of other
depths it saves some RAMs by banks of whole words, but chooses among them by LUTs, and they are slow.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["BlockRam"]

WHOLE_WORDS = 1024  # up to so many words of 18 bits fit one block RAM of ECP5


class BlockRam(wiring.Component):
    """`depth` words of `width` bits, one read and one write a cycle, data one cycle after its address.

    Members: read_address, read_enable (0 keeps the data), read_data; write_address, write_data, write_enable.
    """

    def __init__(self, width: int, depth: int, init: Sequence[int] = ()) -> None:
        self.width, self.depth, self._init = width, depth, init
        address = max(1, (depth - 1).bit_length())
        super().__init__(
            {
                "read_address": In(address),
                "read_enable": In(1, init=1),
                "read_data": Out(width),
                "write_address": In(address),
                "write_data": In(width),
                "write_enable": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        attributes = {"ram_style": "block", "no_rw_check": 1}
        depth = self.depth if self.depth <= WHOLE_WORDS else 1 << len(self.read_address)
        m.submodules.memory = memory = Memory(shape=self.width, depth=depth, init=self._init, attrs=attributes)
        read, write = memory.read_port(domain="comb"), memory.write_port()
        m.d.comb += [
            read.addr.eq(self.read_address),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            write.en.eq(self.write_enable),
        ]
        held = Signal.like(self.read_data, reset_less=True)
        m.d.comb += self.read_data.eq(held)
        with m.If(self.read_enable):
            m.d.sync += held.eq(read.data)
        return m

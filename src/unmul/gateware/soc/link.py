"""The host's side of the core behind bytes: protocol.py in gateware. Its twin is host.Board, which speaks to it.

One command at a time: collect a header, then move its words, one after the other, between the line and their place.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.crc.catalog import CRC16_XMODEM
from amaranth.lib.wiring import In, Out

from unmul.gateware.operation import ELEMENT
from unmul.gateware.parameters import Parameters
from unmul.gateware.protocol import HEADER, WRITE, Space, Status, TokenFlag, identity, word_bytes
from unmul.gateware.soc.port import MemoryPort

__all__ = ["CORE_PORTS", "Link"]

# The core's host side, as members of the core.
CORE_PORTS = (
    "start", "token", "first", "prefill", "done", "next_token", "saturations", "program_write", "program_address",
    "program_data", "state_write", "state_address", "state_write_data", "state_read_data",
)  # fmt: skip


class Link(wiring.Component):
    """Members: received with received_valid, of the line; sent, a stream; memory, of the weights; control, of the
    memory controller's registers; running, the memory is the core's; the core's host side.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        super().__init__(
            {
                "received": In(8),
                "received_valid": In(1),
                "sent": Out(stream.Signature(8)),
                "memory": Out(MemoryPort(8 * parameters.port_bytes)),
                "control": Out(MemoryPort(32)),
                "running": Out(1),
                "start": Out(1),
                "token": Out(16),
                "first": Out(1),
                "prefill": Out(1),
                "done": In(1),
                "next_token": In(16),
                "saturations": In(32),
                "program_write": Out(1),
                "program_address": Out(range(parameters.program_depth)),
                "program_data": Out(64),
                "state_write": Out(1),
                "state_address": Out(range(parameters.state_depth)),
                "state_write_data": Out(ELEMENT),
                "state_read_data": In(ELEMENT),
            }
        )
        self._ports = {Space.MEMORY: self.memory, Space.CONTROL: self.control}
        self._command, self._address, self._left = Signal(8), Signal(32), Signal(32)  # the header, in its order
        self._word = Signal(8 * max(8, parameters.port_bytes))  # the lowest byte goes out, a new one enters at the top
        self._at, self._last = Signal(range(len(self._word))), Signal(range(len(self._word)))  # bytes
        self._summed = Signal()  # the word is the CRC, the end of the answer
        self._cycles = Signal(32)
        self._crc = CRC16_XMODEM().create()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = self._crc
        self._connect(m)
        with m.FSM() as machine:
            with m.State("HEADER"), m.If(self.received_valid):
                self._read_header(m)
            with m.State("WORD"):
                self._begin(m)
            with m.State("TAKE"), m.If(self.received_valid):
                self._shift(m)
                with m.If(self._at == self._last):
                    m.next = "STORE"
            with m.State("STORE"):
                self._store(m)
            with m.State("ASK"):
                self._ask(m)
            with m.State("RUN"), m.If(self.done):
                m.d.sync += self._address.eq(self.next_token)
                self._answer(m, self.next_token)
            for space, port in self._ports.items():
                with m.State(space.name), m.If(port.data_valid):
                    self._answer(m, port.data)
            with m.State("REGISTER"):
                self._answer(m, Mux(self._is(Space.STATE), self.state_read_data, self._status()))
            with m.State("GIVE"):
                self._give(m)
        m.d.comb += self.running.eq(machine.ongoing("RUN"))
        m.d.sync += self._cycles.eq(Mux(self.start, 1, self._cycles + self.running))
        return m

    def _connect(self, m: Module) -> None:
        """Address and word stand at every place; strobes say which of them takes it."""
        for space, port in self._ports.items():
            request = port.requests.payload
            m.d.comb += [
                request.address.eq(self._address),
                request.write.eq(self._command & WRITE != 0),
                request.data.eq(self._top(space)),
            ]
        m.d.comb += [
            self.program_address.eq(self._address),
            self.program_data.eq(self._top(Space.PROGRAM)),
            self.state_address.eq(self._address),
            self.state_write_data.eq(self._top(Space.STATE)),
            self.token.eq(self._address),
            self.first.eq(self._address & TokenFlag.FIRST != 0),
            self.prefill.eq(self._address & TokenFlag.PREFILL != 0),
            self.sent.payload.eq(self._word),
            self._crc.data.eq(self.received),
        ]

    def _is(self, space: Space) -> Value:
        return self._command[:7] == space

    def _top(self, space: Space) -> Value:
        return self._word[-8 * word_bytes(space, self._parameters) :]

    def _status(self) -> Value:
        values = {
            Status.IDENTITY: identity(self._parameters),
            Status.SATURATIONS: self.saturations,
            Status.CYCLES: self._cycles,
        }
        return Array(values[each] for each in Status)[self._address[:2]]

    def _read_header(self, m: Module) -> None:
        header = Cat(self._command, self._address, self._left)
        m.d.sync += [header.eq(Cat(header[8:], self.received)), self._at.eq(self._at + 1)]
        m.d.comb += self._crc.valid.eq(1)
        with m.If(self._at == HEADER.size - 1):
            m.next = "WORD"

    def _begin(self, m: Module) -> None:
        """A word of the space, or what ends the answer when none is left."""
        m.d.sync += self._at.eq(0)
        with m.Switch(self._command[:7]):
            for space in Space:
                with m.Case(space):
                    m.d.sync += self._last.eq(word_bytes(space, self._parameters) - 1)
        with m.If(~self._left.any()):
            m.d.sync += [self._word.eq(self._crc.crc), self._last.eq(1), self._summed.eq(1)]
            m.next = "GIVE"
        with m.Elif(self._command & WRITE):
            m.next = "TAKE"
        with m.Else():
            m.next = "ASK"

    def _shift(self, m: Module) -> None:
        m.d.comb += self._crc.valid.eq(1)
        m.d.sync += [self._word.eq(Cat(self._word[8:], self.received)), self._at.eq(self._at + 1)]

    def _store(self, m: Module) -> None:
        """Nothing comes over the line meanwhile: a byte takes longer than any memory."""
        waits = Signal()
        for space, port in self._ports.items():
            with m.If(self._is(space)):
                m.d.comb += [port.requests.valid.eq(1), waits.eq(~port.requests.ready)]
        m.d.comb += [self.program_write.eq(self._is(Space.PROGRAM)), self.state_write.eq(self._is(Space.STATE))]
        with m.If(~waits):
            self._advance(m)

    def _ask(self, m: Module) -> None:
        with m.Switch(self._command[:7]):
            for space, port in self._ports.items():
                with m.Case(space):
                    m.d.comb += port.requests.valid.eq(1)
                    with m.If(port.requests.ready):
                        m.next = space.name
            with m.Case(Space.RUN):
                m.d.comb += self.start.eq(1)
                m.next = "RUN"
            with m.Default():
                m.next = "REGISTER"

    def _answer(self, m: Module, value: Value) -> None:
        m.d.sync += self._word.eq(value)
        m.next = "GIVE"

    def _give(self, m: Module) -> None:
        m.d.comb += [self.sent.valid.eq(1), self._crc.data.eq(self._word)]
        with m.If(self.sent.ready):
            self._shift(m)
            with m.If(self._at == self._last):
                self._advance(m)
                with m.If(self._summed):
                    m.d.comb += [self._crc.start.eq(1), self._crc.valid.eq(0)]
                    m.d.sync += [self._summed.eq(0), self._at.eq(0)]
                    m.next = "HEADER"

    def _advance(self, m: Module) -> None:
        m.d.sync += [self._left.eq(self._left - 1), self._address.eq(self._address + ~self._is(Space.RUN))]
        m.next = "WORD"

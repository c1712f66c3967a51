"""The sequencer: fetches, decodes and issues in order, and does the control instructions itself.

An instruction goes to its unit when the unit is free and no unit owns a register that it names. What it reads of
scalars, scales, tops and the loop counter is taken then. Twin: execute.control_flow, one instruction after the other.
"""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.fetch import REQUEST
from unmul.gateware.isa import INSTRUCTIONS
from unmul.gateware.operation import OPERATION, PLAIN, SCALAR, field, is_one_of
from unmul.gateware.parameters import QUANTISED_REGISTERS, SCALAR_REGISTERS, VECTOR_REGISTERS, Parameters
from unmul.gateware.pipeline import bit_length, register
from unmul.gateware.scoreboard import UNITS, Scoreboard

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """Members: start, token, prefill of the host, still until done; done, one cycle. program_address, and the word
    there two cycles later; requests to the weight stream; for each unit operation, start, done, busy and owned, its
    vector registers. seen, of the vector file; scale, of the norm unit; value, of the stream unit. Why no instruction
    issues: waits_for_unit, waits_for_register, waits_for_queue.
    """

    def __init__(self, parameters: Parameters) -> None:
        ports = {
            "start": In(1),
            "token": In(16),
            "prefill": In(1),
            "done": Out(1),
            "program_address": Out(range(parameters.program_depth)),
            "word": In(64),
            "requests": Out(stream.Signature(REQUEST)),
            "seen": In(data.ArrayLayout(31, VECTOR_REGISTERS)),
            "scale": In(SCALAR),
            "value": In(SCALAR),
            "waits_for_unit": Out(1),
            "waits_for_register": Out(1),
            "waits_for_queue": Out(1),
        }
        for unit in UNITS:
            ports |= {f"{unit}_operation": Out(OPERATION), f"{unit}_start": Out(1), f"{unit}_done": In(1)}
            ports |= {f"{unit}_busy": Out(1), f"{unit}_owned": Out(VECTOR_REGISTERS)}
        super().__init__(ports)
        self._scoreboard = Scoreboard()
        self._word = Signal(64)
        self._scalars = Array(Signal(SCALAR, name=f"s{n}") for n in range(SCALAR_REGISTERS))
        self._scales = Array(Signal(SCALAR, name=f"scale{n}") for n in range(QUANTISED_REGISTERS))
        self._counter = Signal(16)  # of the loop
        self._issued = Signal()
        self._occupied, self._conflict = Signal(), Signal()  # of the scoreboard

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.scoreboard = board = self._scoreboard
        m.d.comb += [board.word.eq(self._word), board.issue.eq(self._issued)]
        # A cycle old, which is safe: nothing was issued since, and a unit that has just ended only looks busy.
        m.d.sync += [self._occupied.eq(board.occupied), self._conflict.eq(board.conflict)]
        for unit in UNITS:
            m.d.comb += getattr(board, f"{unit}_done").eq(getattr(self, f"{unit}_done"))
            for name in ("busy", "owned"):
                m.d.comb += getattr(self, f"{unit}_{name}").eq(getattr(board, f"{unit}_{name}"))
        embed = self._field("opcode") == INSTRUCTIONS["embed"].opcode
        factors = Mux(embed, self.token, self._counter), Mux(embed, self._field("stride"), self._field("count"))
        left, right = (register(m, factor) for factor in factors)  # the longest path otherwise: decode, then multiply
        offset = register(m, left * right)
        self._launch(m, offset)
        self._take_results(m)
        self._request(m, embed, offset)
        self._run(m)
        return m

    def _field(self, name: str) -> Value:
        return field(self._word, name)

    def _launch(self, m: Module, offset: Value) -> None:
        """Gather what an issued instruction reads, then start its unit with it."""
        gathered, seen = Signal(OPERATION), Signal(31)
        m.d.sync += [gathered[name].eq(self._field(name)) for name in PLAIN]
        m.d.sync += [
            gathered.place.eq(self._field("base") + offset),
            gathered.sa.eq(self._scalars[self._field("sa")]),
            gathered.sb.eq(self._scalars[self._field("sb")]),
            gathered.scale.eq(self._scales[self._field("qa")]),
            seen.eq(self.seen[self._field("va")]),
        ]
        top = bit_length(m, seen)
        launched = register(m, self._issued)
        for unit in UNITS:
            runs = (name for name, each in INSTRUCTIONS.items() if each.unit == unit)
            start, operation = getattr(self, f"{unit}_start"), getattr(self, f"{unit}_operation")
            mine = register(m, launched & is_one_of(gathered.opcode, *runs))
            m.d.sync += start.eq(mine)
            with m.If(mine):
                m.d.sync += [operation.eq(gathered), operation.top.eq(top)]

    def _take_results(self, m: Module) -> None:
        """Scalars and scales that units have made, a cycle after they are done: no reader issues sooner."""
        with m.If(register(m, self.stream_done & is_one_of(self.stream_operation.opcode, "scale"))):
            m.d.sync += self._scalars[self.stream_operation.sd].eq(self.value)
        with m.If(register(m, self.norm_done & is_one_of(self.norm_operation.opcode, "quant"))):
            m.d.sync += self._scales[self.norm_operation.qd].eq(self.scale)

    def _request(self, m: Module, embed: Value, offset: Value) -> None:
        request = self.requests.payload
        m.d.comb += [
            request.address.eq(self._field("address") + Mux(register(m, embed), offset, 0)),
            request.beats.eq(Mux(embed, self._field("row_beats"), self._field("length"))),
        ]

    def _run(self, m: Module) -> None:
        at = self.program_address
        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [at.eq(0), self._counter.eq(0)]
                m.next = "FETCH"
            with m.State("FETCH"):
                m.next = "WAIT"
            with m.State("WAIT"):
                m.next = "READ"
            with m.State("READ"):
                m.d.sync += [self._word.eq(self.word), at.eq(at + 1)]
                m.next = "DECODE"
            with m.State("DECODE"):
                m.next = "MULTIPLY"
                with m.If(self._field("decode") & self.prefill):
                    m.next = "FETCH"
            with m.State("MULTIPLY"):
                m.next = "ISSUE"
            with m.State("ISSUE"):
                self._issue(m)

    def _issue(self, m: Module) -> None:
        """Control instructions happen here; all others go to their unit as soon as they may."""
        with m.Switch(self._field("opcode")):
            with m.Case(INSTRUCTIONS["halt"].opcode):
                m.d.comb += self.waits_for_unit.eq(self.stream_busy | self.norm_busy | self.row_busy)
                with m.If(~self.waits_for_unit):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
            with m.Case(INSTRUCTIONS["set"].opcode):
                self._set(m)
            with m.Case(INSTRUCTIONS["loop"].opcode, INSTRUCTIONS["next"].opcode):
                self._loop(m)
                m.next = "FETCH"
            with m.Case(INSTRUCTIONS["stream"].opcode, INSTRUCTIONS["embed"].opcode):
                m.d.comb += [self.requests.valid.eq(1), self.waits_for_queue.eq(~self.requests.ready)]
                with m.If(self.requests.ready):
                    m.next = "FETCH"
            with m.Default():
                self._give(m)

    def _set(self, m: Module) -> None:
        m.d.comb += self.waits_for_register.eq(self._conflict)
        with m.If(~self.waits_for_register):
            target = self._scalars[self._field("sd")]
            m.d.sync += [target.mantissa.eq(self._field("mantissa")), target.exponent.eq(self._field("exponent"))]
            m.next = "FETCH"

    def _loop(self, m: Module) -> None:
        """`loop` keeps its place and count, `next` goes back to it until the counter has come to count."""
        begin, count = Signal.like(self.program_address), Signal(16)
        following = self._counter + 1
        with m.If(self._field("opcode") == INSTRUCTIONS["loop"].opcode):
            m.d.sync += [begin.eq(self.program_address), count.eq(self._field("count")), self._counter.eq(0)]
        with m.Else():
            m.d.sync += self._counter.eq(following)
            with m.If(following != count):
                m.d.sync += self.program_address.eq(begin)

    def _give(self, m: Module) -> None:
        m.d.comb += [
            self.waits_for_unit.eq(self._occupied),
            self.waits_for_register.eq(self._conflict & ~self._occupied),
            self._issued.eq(~self._occupied & ~self._conflict),
        ]
        with m.If(self._issued):
            m.next = "FETCH"

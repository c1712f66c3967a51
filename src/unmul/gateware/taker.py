"""The stream unit: takes beats in program order, as vector elements, as a scalar, or as rows of a ternary matrix.

Twins: Run._load, _scale, _tmatmul and _thead of execute.py.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.matrix import MatrixPipeline
from unmul.gateware.operation import ELEMENT, SCALAR, UnitPort, VectorAccess, is_one_of
from unmul.gateware.parameters import Parameters
from unmul.gateware.pipeline import delay, register
from unmul.gateware.small import Small, multiply
from unmul.gateware.steps import Steps
from unmul.gateware.vectors import WRITE_LATENCY

__all__ = ["Spreader", "StreamUnit"]

ELEMENT_BITS = 16  # of a vector in the stream
TOKEN_BITS = 16


class Spreader(wiring.Component):
    """Beats to 16-bit elements, one a cycle as long as beats come; what the last beat holds beyond `count` is dropped,
    also where it still passes as the next operation starts.

    Members: start, running, count (still); beats, a stream; valid, element and its index.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._width = parameters.beat_elements
        super().__init__(
            {
                "start": In(1),
                "running": In(1),
                "count": In(16),
                "beats": In(stream.Signature(8 * parameters.beat_bytes)),
                "valid": Out(1),
                "element": Out(ELEMENT),
                "index": Out(17),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held, left = Signal(ELEMENT_BITS * self._width), Signal(range(self._width + 1))
        covered, at = Signal.like(self.index), Signal.like(self.index)  # elements that have come, and that have gone
        more = Signal()  # beats are wanted; a cycle old, but a beat keeps this busy for two
        m.d.comb += self.beats.ready.eq(self.running & (left <= 1) & more)
        m.d.sync += [
            more.eq(covered < self.count),
            self.valid.eq(self.running & left.any() & (at < self.count)),
            self.element.eq(held[:ELEMENT_BITS].as_signed()),
            self.index.eq(at),
        ]
        with m.If(left.any()):
            m.d.sync += [held.eq(held >> ELEMENT_BITS), left.eq(left - 1), at.eq(at + 1)]
        with m.If(self.beats.ready & self.beats.valid):
            m.d.sync += [held.eq(self.beats.payload), left.eq(self._width), covered.eq(covered + self._width)]
        with m.If(self.start):
            m.d.sync += [at.eq(0), covered.eq(0), left.eq(0)]
        return m


class StreamUnit(wiring.Component):
    """Members: unit, vectors; beats, a stream; row_address of qa, and codes, the row there one cycle later; value, the
    scalar of `scale`, right from done on; logit, with logit_valid; next_token, the first row of the largest logit;
    starved, a beat is wanted and none is there.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._matrix = MatrixPipeline(parameters.lanes, parameters.beat_bytes)
        self._spreader, self._rows = Spreader(parameters), Steps()
        super().__init__(
            {
                "unit": Out(UnitPort()),
                "vectors": Out(VectorAccess(parameters.vector_depth)),
                "beats": In(stream.Signature(8 * parameters.beat_bytes)),
                "row_address": Out(range(max(parameters.quantised_rows, 2))),
                "codes": In(8 * parameters.lanes),
                "value": Out(SCALAR),
                "logit_valid": Out(1),
                "logit": Out(ELEMENT),
                "next_token": Out(TOKEN_BITS),
                "starved": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.matrix, m.submodules.spreader, m.submodules.rows = self._matrix, self._spreader, self._rows
        scale = self._scale(m)
        self._load(m)
        self._multiply(m)
        done = self._write(m)
        wanted = self._rows.active | self._spreader.beats.ready | scale
        m.d.comb += [
            self.beats.ready.eq(wanted),
            self.starved.eq(wanted & ~self.beats.valid),
            self.unit.done.eq(delay(m, done | register(m, scale & self.beats.valid), WRITE_LATENCY - 1)),
        ]
        return m

    def _scale(self, m: Module) -> Value:
        """Take the scalar of one beat; whether it is wanted."""
        wanted = Signal()
        with m.If(self.unit.start & is_one_of(self.unit.operation.opcode, "scale")):
            m.d.sync += wanted.eq(1)
        with m.If(wanted & self.beats.valid):
            m.d.sync += [
                wanted.eq(0),
                self.value.mantissa.eq(self.beats.payload[:16]),
                self.value.exponent.eq(self.beats.payload[16:32]),
            ]
        return wanted

    def _load(self, m: Module) -> None:
        spreader, operation = self._spreader, self.unit.operation
        with m.If(self.unit.start | self.unit.done):
            m.d.sync += spreader.running.eq(self.unit.start & is_one_of(operation.opcode, "load"))
        m.d.comb += [
            spreader.start.eq(self.unit.start),
            spreader.count.eq(operation.count),
            spreader.beats.valid.eq(self.beats.valid),
            spreader.beats.payload.eq(self.beats.payload),
        ]

    def _multiply(self, m: Module) -> None:
        """Feed the pipeline a beat a cycle, its codes beside it."""
        operation, matrix, rows = self.unit.operation, self._matrix, self._rows
        beat, left = Signal.like(operation.beats), Signal.like(operation.beats)  # of the row: gone, and to come
        taken, last = Signal(), Signal()
        following = Mux(self.unit.start | last, operation.beats, left - 1)
        scale = multiply(m, Small.of(operation.scale), Small.of(operation.sa))
        m.d.comb += [
            taken.eq(rows.active & self.beats.valid),
            rows.start.eq(self.unit.start & is_one_of(operation.opcode, "tmatmul", "thead")),
            rows.step.eq(taken & last),
            rows.count.eq(operation.count),
            self.row_address.eq(beat),
            matrix.valid.eq(taken),
            matrix.first.eq(beat == 0),
            matrix.last.eq(last),
            matrix.beat.eq(self.beats.payload),
            matrix.codes.eq(self.codes),
            matrix.scale.mantissa.eq(scale.mantissa),
            matrix.scale.exponent.eq(scale.exponent),
        ]
        with m.If(taken):
            m.d.sync += beat.eq(Mux(last, 0, beat + 1))
        with m.If(taken | self.unit.start):
            m.d.sync += [left.eq(following), last.eq(following == 1)]

    def _write(self, m: Module) -> Value:
        """Elements and rows to vd, rows of thead to the logit port; whether the operation's last one was written."""
        operation, vectors, matrix, spreader = self.unit.operation, self.vectors, self._matrix, self._spreader
        adds = operation.add & is_one_of(operation.opcode, "tmatmul")
        row, addend, index = Signal(16), Signal(16), Signal(16)
        m.d.sync += [row.eq(row + matrix.done), addend.eq(addend + matrix.addend_next)]
        with m.If(self.unit.start):
            m.d.sync += [row.eq(0), addend.eq(0)]
        thead = is_one_of(operation.opcode, "thead")
        m.d.comb += [
            index.eq(Mux(spreader.running, spreader.index, row)),
            vectors.read_address.eq(addend),
            matrix.addend.eq(Mux(adds, vectors.a, 0)),
            vectors.write.eq(spreader.valid | (matrix.done & ~thead)),
            vectors.write_address.eq(index),
            vectors.write_data.eq(Mux(spreader.running, spreader.element, matrix.result)),
            vectors.clipped.eq(matrix.clipped),
            self.logit_valid.eq(matrix.done & thead),
            self.logit.eq(matrix.result),
        ]
        best = Signal(ELEMENT)
        with m.If(self.logit_valid & ((row == 0) | (matrix.result > best))):
            m.d.sync += [best.eq(matrix.result), self.next_token.eq(row)]
        return register(m, spreader.valid | matrix.done) & (register(m, index + 1) == operation.count)

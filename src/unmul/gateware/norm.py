"""The norm unit: RMSNorm to a vector register, or to int8 codes with a scale. Twins: units.norm, units.quantise.

It walks the vector twice. The first pass finds sum(va^2) and the largest |va * vb|; then a few small floats settle; the
second pass multiplies by the root and rescales, or by the reciprocal of the largest and cuts to a code.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.memory import BlockRam
from unmul.gateware.operation import SCALAR, UnitPort, VectorAccess, is_one_of
from unmul.gateware.parameters import Parameters
from unmul.gateware.pipeline import (
    PRODUCT_LATENCY,
    RESCALE_LATENCY,
    WIDE,
    delay,
    magnitude,
    product,
    register,
    rescale,
    saturate,
    shift_right,
)
from unmul.gateware.scalar import MANTISSA_BITS
from unmul.gateware.small import ADD_LATENCY, MULTIPLY_LATENCY, RSQRT_LATENCY, Normaliser, Small, add, multiply, rsqrt
from unmul.gateware.steps import Steps
from unmul.gateware.units import OPERAND_BITS, QUANT_BITS, RECIPROCAL_DELTAS, RECIPROCAL_VALUES
from unmul.gateware.vectors import READ_LATENCY, WRITE_LATENCY

__all__ = ["CodePacker", "NormUnit"]

SHIFT_LATENCY = 3  # of shift_right by up to 63
PRODUCTS_LATENCY = READ_LATENCY + SHIFT_LATENCY + 1  # from an index to u and x^2
MEASURE_LATENCY = PRODUCTS_LATENCY + 3
NORM_LATENCY = PRODUCTS_LATENCY + PRODUCT_LATENCY + RESCALE_LATENCY + 1
CODE_LATENCY = PRODUCTS_LATENCY + SHIFT_LATENCY + 2
SETTLE = (
    ADD_LATENCY + RSQRT_LATENCY + 2 * MULTIPLY_LATENCY + 4
)  # the longest way from the sums to a constant of pass two
SUM_BITS = 50  # of up to 2^16 squares of 18 bits
SIZE_BITS = 33  # of |u|


class CodePacker(wiring.Component):
    """Gathers int8 codes into rows of `lanes`; the last row is filled up with zeros.

    Members: start; write, code, final (with the last code); row_write, row_address, row_data; done, one cycle.
    """

    def __init__(self, lanes: int, rows: int) -> None:
        self._lanes = lanes
        super().__init__(
            {
                "start": In(1),
                "write": In(1),
                "code": In(8),
                "final": In(1),
                "row_write": Out(1),
                "row_address": Out(range(max(rows, 2))),
                "row_data": Out(8 * lanes),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lane, filling = Signal(range(self._lanes)), Signal()
        taken, full = Signal(), Signal()
        m.d.comb += [taken.eq(self.write | filling), full.eq(taken & (lane == self._lanes - 1))]
        with m.If(taken):
            m.d.sync += [lane.eq(Mux(full, 0, lane + 1)), filling.eq(~full & (filling | self.final))]
        code = register(m, Mux(self.write, self.code, 0))
        with m.If(register(m, taken)):  # the row is wide: what counts lanes stands apart from it
            m.d.sync += self.row_data.eq(Cat(self.row_data[8:], code))
        m.d.sync += [
            self.row_write.eq(register(m, full)),
            self.done.eq(register(m, full & (filling | self.final))),
        ]
        with m.If(self.row_write):
            m.d.sync += self.row_address.eq(self.row_address + 1)
        with m.If(self.start):
            m.d.sync += self.row_address.eq(0)
        return m


class NormUnit(wiring.Component):
    """Members: unit, vectors; row_write, row_address, row_data of qd; scale of qd, right from done on."""

    def __init__(self, parameters: Parameters) -> None:
        self._packer = CodePacker(parameters.lanes, parameters.quantised_rows)
        self._steps, self._normaliser = Steps(), Normaliser(SUM_BITS)
        self._applying = Signal()  # the second pass
        self._total, self._largest = Signal(SUM_BITS), Signal(SIZE_BITS)
        self._squares = Signal(SCALAR)
        self._exponent = Signal(signed(6))  # of x, in the units of va
        super().__init__(
            {
                "unit": Out(UnitPort()),
                "vectors": Out(VectorAccess(parameters.vector_depth)),
                "row_write": Out(1),
                "row_address": Out(range(max(parameters.quantised_rows, 2))),
                "row_data": Out(8 * parameters.lanes),
                "scale": Out(SCALAR),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules += [self._packer, self._steps, self._normaliser]
        m.d.comb += [
            self._steps.count.eq(self.unit.operation.count),
            self.vectors.read_address.eq(self._steps.index),
        ]
        m.d.sync += self._exponent.eq(self.unit.operation.top - OPERAND_BITS)
        u, square = self._products(m)
        self._measure(m, u, square)
        self._control(m)
        root = self._root(m)
        self._write_vector(m, u, root)
        self._write_codes(m, u)
        return m

    def _products(self, m: Module) -> tuple[Value, Value]:
        """u = x * vb and x^2 with x = va * 2^(17 - top), PRODUCTS_LATENCY after an element's index."""
        raised = Cat(Const(0, OPERAND_BITS), self.vectors.a).as_signed()
        x = shift_right(m, raised, Cat(self.unit.operation.top, Const(0, 1)))[: OPERAND_BITS + 1].as_signed()
        factor = delay(m, self.vectors.b[:16].as_signed(), SHIFT_LATENCY)
        return register(m, x * factor), register(m, x * x)

    def _measure(self, m: Module, u: Value, square: Value) -> None:
        """Sum and largest of the first pass."""
        valid = delay(m, self._steps.active & ~self._applying, PRODUCTS_LATENCY)
        size = register(m, magnitude(u)[:SIZE_BITS])
        with m.If(valid):
            m.d.sync += self._total.eq(self._total + square)
        with m.If(register(m, valid) & (size > self._largest)):
            m.d.sync += self._largest.eq(size)
        with m.If(self.unit.start):
            m.d.sync += [self._total.eq(0), self._largest.eq(0)]

    def _control(self, m: Module) -> None:
        """First pass, sums to small floats, constants settle, second pass."""
        steps, normaliser = self._steps, self._normaliser
        measured = delay(m, steps.active & steps.last & ~self._applying, MEASURE_LATENCY)
        wait = Signal(range(SETTLE + 1))
        m.d.comb += normaliser.value.eq(self._total)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += steps.start.eq(self.unit.start)
                with m.If(measured):
                    m.d.comb += normaliser.start.eq(1)
                    m.next = "SQUARES"
            with m.State("SQUARES"), m.If(normaliser.done):
                m.d.sync += [
                    self._squares.mantissa.eq(normaliser.shifted[-MANTISSA_BITS:]),
                    self._squares.exponent.eq(_from_int(normaliser, 2 * self._exponent)),
                    wait.eq(SETTLE),
                ]
                m.d.comb += [normaliser.value.eq(self._largest << SUM_BITS - SIZE_BITS), normaliser.start.eq(1)]
                m.next = "LARGEST"
            with m.State("LARGEST"), m.If(normaliser.done):
                m.next = "SETTLE"
            with m.State("SETTLE"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.d.comb += steps.start.eq(1)
                    m.d.sync += self._applying.eq(1)
                    m.next = "APPLY"
            with m.State("APPLY"), m.If(self.unit.done):
                m.d.sync += self._applying.eq(0)
                m.next = "IDLE"

    def _root(self, m: Module) -> Small:
        """sb * rsqrt(sum(va^2) + sa); and the scale of the codes, largest * root."""
        operation, normaliser = self.unit.operation, self._normaliser
        root = multiply(m, rsqrt(m, add(m, Small.of(self._squares), Small.of(operation.sa))), Small.of(operation.sb))
        size = Small(normaliser.shifted[-MANTISSA_BITS:], _size_exponent(normaliser, self._exponent))
        scale = multiply(m, size, root)
        m.d.comb += [self.scale.mantissa.eq(scale.mantissa), self.scale.exponent.eq(scale.exponent)]
        return root

    def _write_vector(self, m: Module, u: Value, root: Small) -> None:
        """Second pass of norm."""
        wide = Signal(WIDE)
        m.d.comb += wide.eq(product(m, u, root.mantissa))
        scaled = rescale(m, wide, register(m, root.exponent + self._exponent))
        result, clipped = saturate(m, scaled)
        norm = self._applying & register(m, is_one_of(self.unit.operation.opcode, "norm"))
        written = delay(m, self._steps.active & norm, NORM_LATENCY)
        final = delay(m, self._steps.active & self._steps.last & norm, NORM_LATENCY + WRITE_LATENCY)
        vectors = self.vectors
        m.d.sync += vectors.write_address.eq(Mux(self.unit.start, 0, vectors.write_address + written))
        m.d.comb += [
            vectors.write.eq(written),
            vectors.write_data.eq(result),
            vectors.clipped.eq(clipped & written),
            self.unit.done.eq(final | self._packer.done),
        ]

    def _write_codes(self, m: Module, u: Value) -> None:
        """Second pass of quant."""
        packer, normaliser = self._packer, self._normaliser
        raised = Cat(Const(0, OPERAND_BITS), u).as_signed()
        down = (normaliser.length - (SUM_BITS - SIZE_BITS))[:6]
        x = shift_right(m, raised, down)[: OPERAND_BITS + 1].as_signed()
        wide = register(m, x * self._reciprocal(m))
        code = register(m, (wide + (1 << QUANT_BITS - 1)) >> QUANT_BITS)
        quant = self._applying & register(m, is_one_of(self.unit.operation.opcode, "quant"))
        m.d.comb += [
            packer.start.eq(self.unit.start),
            packer.code.eq(code),
            packer.write.eq(delay(m, self._steps.active & quant, CODE_LATENCY)),
            packer.final.eq(delay(m, self._steps.active & self._steps.last & quant, CODE_LATENCY)),
            self.row_write.eq(packer.row_write),
            self.row_address.eq(packer.row_address),
            self.row_data.eq(packer.row_data),
        ]

    def _reciprocal(self, m: Module) -> Value:
        """127 * 2^26 / x of the 17 highest bits of the largest, as a signed operand."""
        x = self._normaliser.shifted[-OPERAND_BITS:]
        table = [int(v) | int(d) << OPERAND_BITS for v, d in zip(RECIPROCAL_VALUES, RECIPROCAL_DELTAS, strict=True)]
        m.submodules.reciprocal = rom = BlockRam(OPERAND_BITS + 9, len(table), init=table)
        m.d.comb += rom.read_address.eq(x[8:16])
        found = delay(m, rom.read_data, 2)
        value, delta = found[:OPERAND_BITS], found[OPERAND_BITS:]
        cut = (register(m, delta * x[:8]) + 128) >> 8
        inverse = Mux(x.any(), value - cut, 0)[:OPERAND_BITS]
        return register(m, Cat(inverse, Const(0, 1)).as_signed())


def _from_int(normaliser: Normaliser, exponent: Value) -> Value:
    """The exponent of the small float of a normalised number times 2^exponent."""
    return Mux(normaliser.length.any(), exponent + normaliser.length - MANTISSA_BITS, 0)


def _size_exponent(normaliser: Normaliser, exponent: Value) -> Value:
    return _from_int(normaliser, exponent - (SUM_BITS - SIZE_BITS))

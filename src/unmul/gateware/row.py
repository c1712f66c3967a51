"""The row unit: silu, gate, scan and mul, one element a cycle through one multiplier. Its twins are in units.py.

All four are a product, rounded: va * sigmoid(va), vb * sigmoid(-va), (va - h) * vb + h, va * vb. So an element passes
the sigmoid, then the choice of two factors, then the multiplier, whatever the instruction.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.memory import BlockRam
from unmul.gateware.operation import ELEMENT, UnitPort, VectorAccess, is_one_of
from unmul.gateware.parameters import Parameters
from unmul.gateware.pipeline import PRODUCT_LATENCY, delay, magnitude, product, register, saturate
from unmul.gateware.steps import Steps
from unmul.gateware.units import BOUND_BITS, FRACTION_BITS, SIGMOID_DELTAS, SIGMOID_VALUES
from unmul.gateware.vectors import READ_LATENCY, WRITE_LATENCY

__all__ = ["RowUnit", "Sigmoid", "StateAccess"]

STATE_LATENCY = 2  # block RAM and its output register
KNOT_BITS = 15  # of a magnitude, below the table's entry
SIGMOID_LATENCY = PRODUCT_LATENCY + 6
SUM_LATENCY = PRODUCT_LATENCY + 3  # from the two factors to the sum before saturation
LATENCY = READ_LATENCY + SIGMOID_LATENCY + SUM_LATENCY + 1


class StateAccess(wiring.Signature):
    """The row unit's access to the state, as the unit's own member.

    Members: read_address; h, the value there STATE_LATENCY cycles later; write, write_address (write_data is
    the vector's).
    """

    def __init__(self, depth: int) -> None:
        address = (depth - 1).bit_length()
        super().__init__(
            {"read_address": Out(address), "h": In(ELEMENT), "write": Out(1), "write_address": Out(address)}
        )


class Sigmoid(wiring.Component):
    """sigmoid(x), or of -x where `negate`, in 20 fraction bits, SIGMOID_LATENCY cycles later. Twin: units.sigmoid."""

    def __init__(self) -> None:
        super().__init__({"x": In(ELEMENT), "negate": In(1), "y": Out(FRACTION_BITS + 1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        knots = zip(SIGMOID_VALUES, SIGMOID_DELTAS, strict=True)
        table = [int(value) | int(delta) << FRACTION_BITS for value, delta in knots]
        m.submodules.table = rom = BlockRam(33, len(table), init=table)
        size = register(m, magnitude(self.x).as_unsigned())
        negative = register(m, Mux(self.negate, ~self.x[-1] & self.x.any(), self.x[-1]))
        m.d.comb += rom.read_address.eq(size[KNOT_BITS : KNOT_BITS + 9])
        found = delay(m, rom.read_data, 2)
        value, delta = found[:FRACTION_BITS], found[FRACTION_BITS:]
        cut = (product(m, delta, delay(m, size[:KNOT_BITS], 3)) + (1 << KNOT_BITS - 1)) >> KNOT_BITS
        beyond = delay(m, size[KNOT_BITS + 9 :].any(), PRODUCT_LATENCY + 3)
        below = register(m, Mux(beyond, 0, (delay(m, value, PRODUCT_LATENCY) - cut)[: FRACTION_BITS + 1]))
        m.d.sync += self.y.eq(Mux(delay(m, negative, PRODUCT_LATENCY + 4), below, (1 << FRACTION_BITS) - below))
        return m


class RowUnit(wiring.Component):
    """Members: unit, vectors, state; first, the state is read as 0."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        super().__init__(
            {
                "unit": Out(UnitPort()),
                "vectors": Out(VectorAccess(parameters.vector_depth)),
                "state": Out(StateAccess(parameters.state_depth)),
                "first": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        operation, vectors = self.unit.operation, self.vectors
        m.submodules.steps = steps = Steps()
        written, final = delay(m, steps.active, LATENCY), delay(m, steps.active & steps.last, LATENCY)
        m.d.comb += [
            steps.start.eq(self.unit.start),
            steps.count.eq(operation.count),
            vectors.read_address.eq(steps.index),
            vectors.write.eq(written),
            self.unit.done.eq(delay(m, final, WRITE_LATENCY)),
        ]
        m.d.sync += vectors.write_address.eq(Mux(self.unit.start, 0, vectors.write_address + written))
        h = self._state(m, steps.index, written)
        result, clipped = saturate(m, self._sum(m, h))
        m.d.comb += [vectors.write_data.eq(result), vectors.clipped.eq(clipped & written)]
        return m

    def _state(self, m: Module, index: Value, written: Value) -> Value:
        """Walk the state beside the vectors; h of the element whose a and b are out."""
        operation, state = self.unit.operation, self.state
        m.d.comb += [
            state.read_address.eq(register(m, operation.place + index)),
            state.write.eq(written & register(m, is_one_of(operation.opcode, "scan"))),
            state.write_address.eq(operation.place + self.vectors.write_address),
        ]
        return delay(m, Mux(self.first, 0, state.h), READ_LATENCY - 1 - STATE_LATENCY)

    def _sum(self, m: Module, h: Value) -> Signal:
        opcode = self.unit.operation.opcode
        scan, gate, mul = (register(m, is_one_of(opcode, name)) for name in ("scan", "gate", "mul"))
        m.submodules.sigmoid = sigmoid = Sigmoid()
        m.d.comb += [sigmoid.x.eq(self.vectors.a), sigmoid.negate.eq(gate)]
        a, b, h = (delay(m, value, SIGMOID_LATENCY) for value in (self.vectors.a, self.vectors.b, h))
        left, right = Signal(signed(33), reset_less=True), Signal(ELEMENT, reset_less=True)
        m.d.sync += [
            left.eq(Mux(gate, b[:16].as_signed(), Mux(scan, a - h, a))),
            right.eq(Mux(scan, b[:22].as_signed(), Mux(mul, b, sigmoid.y))),
        ]
        wide = product(m, left, right)
        cut = Mux(gate, wide >> BOUND_BITS - 1, wide >> FRACTION_BITS - 1)
        rounded = register(m, (cut + 1) >> 1)
        return register(m, rounded + Mux(scan, delay(m, h, SUM_LATENCY - 1), 0))

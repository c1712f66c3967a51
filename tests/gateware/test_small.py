"""Small floats in gateware equal scalar.py, and the normaliser finds every bit length."""

import numpy as np
import pytest
from amaranth.hdl import Module, Signal, Value
from amaranth.sim import Simulator, SimulatorContext

from unmul.gateware import scalar, small
from unmul.gateware.operation import SCALAR
from unmul.gateware.scalar import Scalar

PAIRS = 200


def scalars(seed: int) -> Scalar:
    """Random small floats, zeros and extreme mantissas among them."""
    rng = np.random.default_rng(seed)
    mantissa = rng.integers(2**15, 2**16, PAIRS)
    mantissa[:8] = rng.permutation([0, 0, 2**15, 2**15, 2**16 - 1, 2**16 - 1, 2**15 + 1, 40_000])
    exponent = np.where(mantissa == 0, 0, rng.integers(-40, 40, PAIRS) // rng.integers(1, 20, PAIRS))
    return Scalar(mantissa, exponent)


def results(build, x: Scalar, y: Scalar, latency: int) -> list[tuple[int, int]]:
    """What build(m, x, y) gives for each pair, `latency` cycles after it is applied."""
    m, left, right = Module(), Signal(SCALAR), Signal(SCALAR)
    found = []
    result = build(m, small.Small.of(left), small.Small.of(right))
    mantissa, exponent = Signal(16), Signal(SCALAR).exponent
    m.d.comb += [mantissa.eq(result.mantissa), Value.cast(exponent).eq(result.exponent)]

    async def bench(ctx: SimulatorContext) -> None:
        for pair in zip(*x, *y, strict=True):
            values = [int(value) for value in pair]
            ctx.set(left, {"mantissa": values[0], "exponent": values[1]})
            ctx.set(right, {"mantissa": values[2], "exponent": values[3]})
            await ctx.tick().repeat(latency)
            found.append((ctx.get(mantissa), ctx.get(exponent)))

    simulator = Simulator(m)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return found


def listed(value: Scalar) -> list[tuple[int, int]]:
    return [(int(m), int(e)) for m, e in zip(*value, strict=True)]


@pytest.mark.parametrize(
    ("name", "latency"), [("multiply", small.MULTIPLY_LATENCY), ("add", small.ADD_LATENCY)], ids=["multiply", "add"]
)
def test_an_operation_of_two_equals_its_twin(name, latency):
    x, y = scalars(1), scalars(2)
    assert results(getattr(small, name), x, y, latency) == listed(getattr(scalar, name)(x, y))


def test_rsqrt_equals_its_twin():
    x = scalars(3)
    x = Scalar(np.maximum(x.mantissa, 2**15), x.exponent)
    assert results(lambda m, one, _: small.rsqrt(m, one), x, x, small.RSQRT_LATENCY) == listed(scalar.rsqrt(x))


def test_the_normaliser_finds_every_bit_length():
    unit, seen = small.Normaliser(20), []
    values = [0, *(1 << bit for bit in range(20)), 2**20 - 1, 0b1010]

    async def bench(ctx: SimulatorContext) -> None:
        for value in values:
            ctx.set(unit.value, value)
            ctx.set(unit.start, 1)
            await ctx.tick()
            ctx.set(unit.start, 0)
            while not ctx.get(unit.done):
                await ctx.tick()
            seen.append((ctx.get(unit.length), ctx.get(unit.shifted)))

    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == [(value.bit_length(), value << 20 - value.bit_length()) for value in values]

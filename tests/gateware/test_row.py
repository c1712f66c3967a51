"""The row unit equals its twins on every instruction, extremes included."""

import numpy as np
import pytest
from amaranth.sim import SimulatorContext
from benches import Bench, operation, random_elements

from unmul.gateware import units
from unmul.gateware.parameters import Parameters
from unmul.gateware.row import STATE_LATENCY, RowUnit

PARAMETERS = Parameters(lanes=16, vector_depth=512, state_depth=512)


class StateBench(Bench):
    """Adds a state memory in Python."""

    def __init__(self, unit, va, vb, h):
        super().__init__(unit, va, vb)
        self.h, self.new, self._coming = h, h.copy(), [0] * STATE_LATENCY

    def watch(self, ctx: SimulatorContext) -> None:
        state = self.unit.state
        if ctx.get(state.write):
            self.new[ctx.get(state.write_address)] = ctx.get(self.unit.vectors.write_data)
        ctx.set(state.h, self._coming.pop(0))
        self._coming.append(int(self.h[ctx.get(state.read_address)]))


TWINS = {
    "silu": lambda va, vb: units.silu(va),
    "gate": units.gate,
    "mul": units.mul,
}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("count", [1, 7, 400])
def test_an_instruction_equals_its_twin(name, count):
    va, vb = random_elements(count, 1), random_elements(count, 2)
    expected, clipped = units.saturate(TWINS[name](va, vb))
    bench = Bench(RowUnit(PARAMETERS), va, vb).run(operation(name, count=count))
    assert bench.written(count) == expected.tolist()
    assert bench.clipped == clipped
    assert bench.cycles < count + 32


@pytest.mark.parametrize("first", [0, 1])
def test_scan_equals_its_twin_and_writes_the_state(first):
    count, place = 300, 100
    va, vb, h = (random_elements(size, seed) for size, seed in ((count, 3), (count, 4), (512, 5)))
    before = h[place : place + count] * (1 - first)
    expected, clipped = units.saturate(units.scan(va, vb, before))
    bench = StateBench(RowUnit(PARAMETERS), va, vb, h)
    bench.run(operation("scan", count=count, place=place), first=first)
    assert bench.written(count) == expected.tolist()
    assert bench.new[place : place + count].tolist() == expected.tolist()
    assert (np.delete(bench.new, slice(place, place + count)) == np.delete(h, slice(place, place + count))).all()
    assert bench.clipped == clipped

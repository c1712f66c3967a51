"""Test benches that the gateware's unit tests share: a unit on vectors that stand in Python."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from amaranth.sim import Simulator, SimulatorContext

from unmul.gateware.isa import INSTRUCTIONS
from unmul.gateware.scalar import Scalar
from unmul.gateware.vectors import READ_LATENCY

__all__ = ["EXTREMES", "Bench", "operation", "random_elements", "scalar"]

EXTREMES = np.array([0, 1, -1, 2**31 - 1, -(2**31), 2**16, -(2**16), 2**20, -(2**20), 2**15 - 1, -(2**15)], np.int64)


def random_elements(count: int, seed: int) -> np.ndarray:
    """int32 values of every size as int64, the extremes first."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-(2**31), 2**31, count) >> rng.integers(0, 32, count)
    values[: EXTREMES.size] = rng.permutation(EXTREMES)[:count]
    return values


def scalar(value: Scalar) -> dict[str, int]:
    """A small float as the value of a SCALAR structure."""
    return {"mantissa": int(value.mantissa), "exponent": int(value.exponent)}


def operation(name: str, **fields: Any) -> dict[str, Any]:
    """The value of an OPERATION structure."""
    return {"opcode": INSTRUCTIONS[name].opcode, **fields}


class Bench:
    """Runs one operation on a unit that has `unit` and `vectors`; va and vb are read with the real latency.

    Members afterwards: vd, elements written by address; clipped, how many were; cycles from start to done.
    """

    def __init__(self, unit: Any, va: np.ndarray, vb: np.ndarray) -> None:
        self.unit, self.va, self.vb = unit, va, vb
        self.vd: dict[int, int] = {}
        self.clipped, self.cycles = 0, 0

    def run(self, value: Mapping[str, Any], **inputs: int) -> "Bench":
        """Start the operation, wait until it is done."""
        simulator = Simulator(self.unit)
        simulator.add_clock(1e-8)

        async def drive(ctx: SimulatorContext) -> None:
            await self._drive(ctx, value, inputs)

        simulator.add_testbench(drive)
        simulator.run()
        return self

    async def _drive(self, ctx: SimulatorContext, value: Mapping[str, Any], inputs: Mapping[str, int]) -> None:
        unit, vectors = self.unit.unit, self.unit.vectors
        for name, number in inputs.items():
            ctx.set(getattr(self.unit, name), number)
        ctx.set(unit.operation, value)
        ctx.set(unit.start, 1)
        pending = [0] * (READ_LATENCY - 1)
        for self.cycles in range(100_000):
            pending.append(ctx.get(vectors.read_address))
            at = pending.pop(0)
            self.watch(ctx)
            await ctx.tick()
            ctx.set(unit.start, 0)
            ctx.set(vectors.a, int(self.va[at % self.va.size]))
            ctx.set(vectors.b, int(self.vb[at % self.vb.size]))
            if ctx.get(vectors.write):
                self.vd[ctx.get(vectors.write_address)] = ctx.get(vectors.write_data)
                self.clipped += ctx.get(vectors.clipped)
            if ctx.get(unit.done):
                self.watch(ctx)
                return
        raise AssertionError("the unit does not end")

    def watch(self, ctx: SimulatorContext) -> None:
        """What a test adds to a cycle, before the clock edge."""

    def written(self, count: int) -> list[int]:
        """The elements of vd; all and no others must have been written."""
        assert sorted(self.vd) == list(range(count))
        return [self.vd[index] for index in range(count)]

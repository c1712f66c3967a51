"""The dot unit equals its twin, row by row, whatever the gaps between beats."""

import numpy as np
import pytest
from amaranth.sim import Simulator, SimulatorContext

from unmul.gateware.dot import DotUnit, dot


def run(unit: DotUnit, q: np.ndarray, codes: np.ndarray, idle: np.ndarray) -> list[int]:
    """Sums that come out; q and codes [rows, beats, lanes], idle cycles before each beat [rows, beats]."""
    rows, beats, _ = q.shape
    sums = []

    async def feed(ctx: SimulatorContext) -> None:
        for row in range(rows):
            for beat in range(beats):
                ctx.set(unit.valid, 0)
                await ctx.tick().repeat(1 + idle[row, beat]) if idle[row, beat] else None
                ctx.set(unit.valid, 1)
                ctx.set(unit.first, beat == 0)
                ctx.set(unit.last, beat == beats - 1)
                ctx.set(unit.q, q[row, beat].tolist())
                ctx.set(unit.trits, [{"nonzero": int(c != 0), "negative": int(c < 0)} for c in codes[row, beat]])
                await ctx.tick()
        ctx.set(unit.valid, 0)
        await ctx.tick().repeat(unit.latency + 1)

    async def watch(ctx: SimulatorContext) -> None:
        async for *_, done, total in ctx.tick().sample(unit.done, unit.sum):
            if done:
                sums.append(total)

    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(feed)
    simulator.add_testbench(watch, background=True)
    simulator.run()
    return sums


@pytest.mark.parametrize("lanes", [1, 2, 5, 16, 64])
@pytest.mark.parametrize("beats", [1, 3])
def test_sums_equal_the_twin(lanes: int, beats: int) -> None:
    rng = np.random.default_rng(lanes * 10 + beats)
    shape = (7, beats, lanes)
    q, codes = rng.integers(-128, 128, shape).astype(np.int8), rng.integers(-1, 2, shape).astype(np.int8)
    sums = run(DotUnit(lanes), q, codes, rng.integers(0, 2, shape[:2]))
    assert sums == dot(q.reshape(7, -1), codes.reshape(7, -1)).tolist()


def test_extremes_do_not_overflow() -> None:
    q = np.repeat(np.array([-128, -128, 127, 127], np.int8), 4 * 16).reshape(4, 4, 16)
    codes = np.repeat(np.array([-1, 1, -1, 1], np.int8), 4 * 16).reshape(4, 4, 16)
    assert run(DotUnit(16), q, codes, np.zeros((4, 4), int)) == [8192, -8192, -8128, 8128]

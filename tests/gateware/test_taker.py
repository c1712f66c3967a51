"""The spreader gives the elements of each operation and no others, however much its last beat held beyond them."""

import numpy as np
import pytest
from amaranth.sim import Simulator, SimulatorContext

from unmul.gateware.parameters import Parameters
from unmul.gateware.taker import Spreader


def spread(parameters: Parameters, counts: list[int], seed: int) -> tuple[list, list]:
    """Indices and elements of operations one after the other, as they came and as they should."""
    unit, rng = Spreader(parameters), np.random.default_rng(seed)
    vectors = [rng.integers(-(2**15), 2**15, count) for count in counts]
    beats = [beat for vector in vectors for beat in laid_out(vector, parameters)]
    found: list[list] = []

    async def run(ctx: SimulatorContext) -> None:
        for vector in vectors:
            found.append([])
            ctx.set(unit.count, vector.size)
            ctx.set(unit.start, 1)
            for _ in range(8 * vector.size + 16):
                await step(ctx)
                ctx.set(unit.start, 0)
                ctx.set(unit.running, len(found[-1]) < vector.size)

    async def step(ctx: SimulatorContext) -> None:
        ctx.set(unit.beats.valid, bool(beats) and rng.random() < 0.5)
        ctx.set(unit.beats.payload, beats[0] if beats else 0)
        if ctx.get(unit.beats.valid & unit.beats.ready):
            beats.pop(0)
        await ctx.tick()
        if ctx.get(unit.valid):
            found[-1].append((ctx.get(unit.index), ctx.get(unit.element)))

    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(run)
    simulator.run()
    return found, [list(enumerate(vector.tolist())) for vector in vectors]


def laid_out(vector: np.ndarray, parameters: Parameters) -> list[int]:
    """Beats of a vector, what is left of the last one filled up with ones."""
    width = parameters.beat_elements
    padded = np.full(-(-vector.size // width) * width, -1, "<i2")
    padded[: vector.size] = vector
    rows = padded.view(np.uint8).reshape(-1, 2 * width)
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


@pytest.mark.parametrize("lanes", [16, 64, 256])
@pytest.mark.parametrize("counts", [[1, 30, 2], [53, 1, 1, 27], [26, 12]], ids=str)
def test_each_operation_gets_its_elements(lanes, counts):
    found, expected = spread(Parameters(lanes=lanes, port_bytes=4), counts, lanes)
    assert found == expected

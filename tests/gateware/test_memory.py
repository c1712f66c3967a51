"""Block RAM of any depth: what was written comes back a cycle after its address."""

import numpy as np
import pytest

pytest.importorskip("amaranth")

from amaranth.sim import Simulator, SimulatorContext

from unmul.gateware.memory import BlockRam

CYCLES = 400


@pytest.mark.parametrize(("width", "depth"), [(36, 512), (13, 1024), (13, 1025), (3, 2049)])
def test_words_come_back_a_cycle_after_their_address(width, depth):
    rng = np.random.default_rng(depth)
    # Few addresses, so that many are read after they were written; the lowest and the highest are among them.
    addresses = np.array([0, depth - 1, *rng.integers(0, depth, 20)])
    content = rng.integers(0, 2**width, depth)
    reads, writes = rng.choice(addresses, CYCLES), rng.choice(addresses, CYCLES)
    words = rng.integers(0, 2**width, CYCLES)
    ram = BlockRam(width, depth, init=content.tolist())
    found = []

    async def bench(ctx: SimulatorContext) -> None:
        for read, write, word in zip(reads, writes, words, strict=True):
            ctx.set(ram.read_address, int(read))
            ctx.set(ram.write_address, int(write))
            ctx.set(ram.write_data, int(word))
            ctx.set(ram.write_enable, int(read != write))
            await ctx.tick()
            found.append(ctx.get(ram.read_data))

    simulator = Simulator(ram)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    expected = []
    for read, write, word in zip(reads, writes, words, strict=True):
        expected.append(content[read])
        if read != write:
            content[write] = word
    assert found == expected

"""The decoder of the weight code, over all bytes."""

import numpy as np
from amaranth.sim import Simulator, SimulatorContext

from unmul.gateware.trit import TritDecoder
from unmul.gateware.weight_code import decode_trits

BYTES = np.arange(256, dtype=np.uint8)


def test_the_decoder_equals_its_twin_on_all_bytes() -> None:
    decoder = TritDecoder()
    seen = []

    async def bench(ctx: SimulatorContext) -> None:
        for byte in BYTES.tolist():
            ctx.set(decoder.packed, byte)
            await ctx.delay(1e-9)
            seen.append([ctx.get(trit.nonzero) * (1 - 2 * ctx.get(trit.negative)) for trit in decoder.trits])

    simulator = Simulator(decoder)
    simulator.add_testbench(bench)
    simulator.run()
    assert np.array_equal(seen, decode_trits(BYTES))

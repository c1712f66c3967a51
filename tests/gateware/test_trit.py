"""The weight code of the hardware: all 243 quintuples, all 256 bytes."""

import itertools

import numpy as np
from amaranth.sim import Simulator, SimulatorContext

from unmul.gateware.trit import TritDecoder, decode_trits, encode_trits

QUINTUPLES = np.array(list(itertools.product((-1, 0, 1), repeat=5)), np.int8)
BYTES = np.arange(256, dtype=np.uint8)


def test_every_quintuple_has_its_own_byte_and_comes_back() -> None:
    packed = encode_trits(QUINTUPLES)
    assert len(set(packed.tolist())) == 3**5
    assert np.array_equal(decode_trits(packed), QUINTUPLES)


def test_the_byte_follows_the_definition() -> None:
    assert encode_trits(np.array([-1, -1, -1, -1, -1], np.int8)) == 0
    assert encode_trits(np.array([0, -1, 0, 1, 1], np.int8)) == 1 + 8 * (1 + 3 * 2 + 9 * 2)
    assert encode_trits(np.array([1, 1, 1, 1, 1], np.int8)) == 26 % 8 + 8 * (27 + 26 // 8)


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

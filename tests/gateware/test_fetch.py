"""The weight stream gives exactly the beats that were asked for, whatever the widths, the memory and the taker."""

import numpy as np
import pytest
from amaranth.sim import Simulator, SimulatorContext

from unmul.gateware.fetch import WeightStream
from unmul.gateware.parameters import Parameters


def beats_of(image: bytes, parameters: Parameters, requests: list[tuple[int, int]]) -> list[bytes]:
    """The twin: beats of requests (address, beats), each from a port word on."""
    size, found = parameters.beat_bytes, []
    for address, beats in requests:
        start = address * parameters.port_bytes
        found += [image[start + beat * size : start + (beat + 1) * size] for beat in range(beats)]
    return found


def run(parameters: Parameters, image: bytes, requests: list[tuple[int, int]], seed: int, pace: float) -> list[bytes]:
    """Beats that come out when memory, requests and taker each pause at random."""
    unit, rng, asked, found = WeightStream(parameters), np.random.default_rng(seed), [], []

    async def ask(ctx: SimulatorContext) -> None:
        for address, beats in requests:
            ctx.set(unit.requests.payload, {"address": address, "beats": beats})
            ctx.set(unit.requests.valid, 1)
            await ctx.tick().until(unit.requests.ready)
            ctx.set(unit.requests.valid, 0)

    async def answer(ctx: SimulatorContext) -> None:
        while True:
            ctx.set(unit.addresses.ready, rng.random() < pace)
            ctx.set(unit.data_valid, bool(asked) and rng.random() < pace)
            if ctx.get(unit.data_valid):
                start = asked.pop(0) * parameters.port_bytes
                ctx.set(unit.data, int.from_bytes(image[start : start + parameters.port_bytes], "little"))
            if ctx.get(unit.addresses.valid & unit.addresses.ready):
                asked.append(ctx.get(unit.addresses.payload))
            await ctx.tick()

    async def take(ctx: SimulatorContext) -> None:
        wanted = sum(beats for _, beats in requests)
        for _ in range(100_000):
            ctx.set(unit.beats.ready, rng.random() < pace)
            if ctx.get(unit.beats.valid & unit.beats.ready):
                found.append(ctx.get(unit.beats.payload).to_bytes(parameters.beat_bytes, "little"))
            if len(found) == wanted:
                return
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(take)
    simulator.add_testbench(ask, background=True)
    simulator.add_testbench(answer, background=True)
    simulator.run()
    return found


@pytest.mark.parametrize(("lanes", "port_bytes"), [(16, 1), (16, 4), (20, 2), (64, 8), (64, 16), (65, 64)])
@pytest.mark.parametrize("pace", [0.5, 1.0])
def test_no_beat_is_lost_or_doubled(lanes, port_bytes, pace):
    parameters = Parameters(lanes=lanes, port_bytes=port_bytes, buffer_words=6)
    image = np.random.default_rng(lanes).bytes(4096)
    requests = [(3, 5), (0, 1), (700 // port_bytes, 17), (1, 2), (9, 1), (2, 30)]
    assert run(parameters, image, requests, 1, pace) == beats_of(image, parameters, requests)

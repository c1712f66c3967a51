"""The ports before LiteDRAM: words go to a plain memory and back in order, and registers, whenever it is ready."""

import random

import pytest

pytest.importorskip("amaranth")

from amaranth.sim import Simulator, SimulatorContext

from unmul.gateware.soc.litedram import LiteDram

PLACES = 8


def simulate(unit, *testbenches) -> None:
    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    for testbench in testbenches[1:]:
        simulator.add_testbench(testbench, background=True)
    simulator.add_testbench(testbenches[0])
    simulator.run()


class Controller:
    """A plain memory with LiteDRAM's native port: it takes a write's data, and gives a read's, later or at once."""

    def __init__(self, unit: LiteDram, seed: int) -> None:
        self.port, self.random, self.memory = unit.native, random.Random(seed), [0] * PLACES

    async def serve(self, ctx: SimulatorContext) -> None:
        answers, writing, now = [], None, 0
        while True:
            port, now = self.port, now + 1
            due = bool(answers and answers[0][0] <= now)
            ctx.set(port.rdata_valid, due)
            ctx.set(port.rdata_data, answers.pop(0)[1] if due else self.random.getrandbits(128))
            ctx.set(port.cmd_ready, self.random.random() < 0.5)
            takes = writing is not None and self.random.random() < 0.3
            ctx.set(port.wdata_ready, takes)
            if takes:
                assert ctx.get(port.wdata_valid)
                self.memory[writing], writing = ctx.get(port.wdata_data), None
            if ctx.get(port.cmd_valid) and ctx.get(port.cmd_ready):
                assert writing is None
                address = ctx.get(port.cmd_addr)
                if ctx.get(port.cmd_we):
                    writing = address
                else:
                    answers.append((now + 7, self.memory[address]))
            await ctx.tick()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_reads_and_writes_equal_a_plain_memory(seed):
    unit, source, memory, expected, found = LiteDram(), random.Random(seed), [0] * PLACES, [], []

    async def ask(ctx: SimulatorContext) -> None:
        port = unit.memory.requests
        for _ in range(150):
            address, writes, word = source.randrange(PLACES), source.random() < 0.4, source.getrandbits(128)
            if writes:
                memory[address] = word
            else:
                expected.append(memory[address])
            ctx.set(port.payload, {"address": address, "write": writes, "data": word})
            ctx.set(port.valid, 1)
            await ctx.tick().until(port.ready)
            ctx.set(port.valid, 0)
            await ctx.tick().repeat(source.choice([1, 3]))
        await ctx.tick().repeat(60)

    async def watch(ctx: SimulatorContext) -> None:
        async for _, _, valid, word in ctx.tick().sample(unit.memory.data_valid, unit.memory.data):
            found.extend([word] * valid)

    simulate(unit, ask, Controller(unit, seed).serve, watch)
    assert found == expected


def test_registers_are_written_and_read_when_the_bus_acknowledges():
    unit, registers, found = LiteDram(), {}, []

    async def serve(ctx: SimulatorContext) -> None:
        bus = unit.wishbone
        while True:
            if ctx.get(bus.cyc) and ctx.get(bus.stb):
                await ctx.tick().repeat(2)
                if ctx.get(bus.we):
                    registers[ctx.get(bus.adr)] = ctx.get(bus.dat_w)
                ctx.set(bus.dat_r, registers.get(ctx.get(bus.adr), 0))
                ctx.set(bus.ack, 1)
                await ctx.tick()
                ctx.set(bus.ack, 0)
            await ctx.tick()

    async def ask(ctx: SimulatorContext) -> None:
        port = unit.control.requests
        for address, write in ((512, 1), (1024, 1), (512, 0), (7, 0)):
            ctx.set(port.payload, {"address": address, "write": write, "data": address + 5})
            ctx.set(port.valid, 1)
            await ctx.tick().until(port.ready)
            ctx.set(port.valid, 0)
            await ctx.tick().repeat(3)

    async def watch(ctx: SimulatorContext) -> None:
        async for _, _, valid, word in ctx.tick().sample(unit.control.data_valid, unit.control.data):
            found.extend([word] * valid)

    simulate(unit, ask, serve, watch)
    assert registers == {512: 517, 1024: 1029}
    assert found == [517, 0]

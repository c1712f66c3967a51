"""The native engine against its NumPy twin, and against itself: steps, chunks, threads, instruction sets."""

# L layers, T tokens, D width, V vocabulary

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import TINY, WIDE, latent_folder, latent_tensors
from tolerance import ENGINE_LOGITS, NEAR_TIE, relative_l2

from unmul import ternary
from unmul.checkpoint import PackedCheckpoint, pack
from unmul.config import OPTIONS, ModelConfig
from unmul.engine import _native, open_engine
from unmul.engine.choose import ISA_VARIABLE
from unmul.engine.cpu import CHUNK, CpuEngine
from unmul.engine.naive import BITLINEAR_EPS, NaiveEngine, rms_norm
from unmul.errors import CheckpointError, EngineError, UsageError

ISAS = _native.instruction_sets()
CONFIGS = [
    TINY,
    ModelConfig(vocab_size=17, hidden_size=1, intermediate_size=3, num_hidden_layers=1, use_lower_bound=False),
    ModelConfig(vocab_size=300, hidden_size=160, intermediate_size=416, num_hidden_layers=4),
    replace(TINY, use_state_norm=True),
    replace(TINY, use_shared_norm=True, use_state_norm=True),
    WIDE,  # E 84 > I 77
    replace(WIDE, expand_ratio=3, intermediate_size=300, use_shared_norm=True, use_state_norm=True),  # E 126 < I
]


def name_of(config: ModelConfig) -> str:
    options = "".join(f"-{name}" for name in OPTIONS if getattr(config, name))
    widths = f"D{config.hidden_size}-E{config.mixer_size}-I{config.ffn_size}"
    return f"V{config.vocab_size}-{widths}-L{config.num_hidden_layers}{options}"


def packed_folder(folder: Path, config: ModelConfig, embeddings: str = "int8") -> Path:
    pack(latent_folder(folder / "latent", config), folder / "packed", embeddings=embeddings)
    return folder / "packed"


def tokens(count: int, vocabulary: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, vocabulary, count).tolist()


@pytest.fixture(scope="module")
def engine(packed: Path) -> CpuEngine:
    return CpuEngine(PackedCheckpoint.open(packed))


class WatchfulEngine(NaiveEngine):
    """The twin, which also notes how near each token's activations came to a rounding boundary of their int8 code."""

    def __init__(self, packed: PackedCheckpoint) -> None:
        super().__init__(packed)
        self.margins: list[np.ndarray] = []

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        normed = rms_norm(x, self._packed.dense(name + ".norm.weight"), BITLINEAR_EPS)
        scaled = normed * ternary.quantise(normed)[1]
        self.margins.append(np.abs(np.abs(scaled - np.floor(scaled)) - 0.5).min(-1))
        return super().linear(name, x)


def assert_same_logits(folder: Path, ids: list[int]) -> None:
    """Token by token from the twin's state: logits within tolerance, but where an int8 code sat on a boundary.

    There the two roundings may part by one unit; such tokens are counted, and none other may differ.
    """
    packed = PackedCheckpoint.open(folder)
    mine, twin = CpuEngine(packed), WatchfulEngine(packed)
    state, moved = twin.new_state(), 0
    for token in ids:
        before, twin.margins = state.copy(), []
        error = relative_l2(mine.forward([token], before), twin.forward([token], state))
        margin = min(float(margins.min()) for margins in twin.margins)
        moved += error >= ENGINE_LOGITS
        assert error < ENGINE_LOGITS or margin < NEAR_TIE, f"{error:.1e} though no code was nearer than {margin:.1e}"
    print(f"{moved} of {len(ids)} tokens moved, each with a code on a rounding boundary")
    assert moved <= len(ids) // 10


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
@pytest.mark.parametrize("embeddings", ["int8", "bf16"])
def test_logits_equal_the_twins(config: ModelConfig, embeddings: str, tmp_path: Path) -> None:
    assert_same_logits(packed_folder(tmp_path, config, embeddings), tokens(40, config.vocab_size))


@pytest.mark.parametrize("count", [1, 40])
def test_one_operand_for_three_projections_changes_no_bit(count: int, tmp_path: Path) -> None:
    shared = packed_folder(tmp_path, replace(TINY, use_shared_norm=True))
    config = json.loads((shared / "config.json").read_text())
    pack(
        latent_folder(tmp_path / "apart", TINY, tensors=latent_tensors(replace(TINY, use_shared_norm=True))),
        tmp_path / "three",
    )
    assert config["use_shared_norm"]
    assert "use_shared_norm" not in (tmp_path / "three" / "config.json").read_text()
    one, three = (CpuEngine(PackedCheckpoint.open(folder), threads=2) for folder in (shared, tmp_path / "three"))
    ids = tokens(count, TINY.vocab_size)
    assert (one.forward(ids, one.new_state()) == three.forward(ids, three.new_state())).all()


def test_logits_equal_the_twins_on_the_reference_model(shared: Path, tmp_path: Path) -> None:
    pack(shared / "golden" / "tiny", tmp_path / "packed")
    assert_same_logits(tmp_path / "packed", tokens(64, 512))


def test_greedy_continuation_equals_the_twins_on_the_reference_model(shared: Path, tmp_path: Path) -> None:
    pack(shared / "golden" / "tiny", tmp_path / "packed")
    packed = PackedCheckpoint.open(tmp_path / "packed")
    written = []
    for engine in (CpuEngine(packed), NaiveEngine(packed)):
        state, new = engine.new_state(), [3]
        for _ in range(24):
            new.append(int(np.argmax(engine.forward(new[-1:], state))))
        written.append(new)
    assert written[0] == written[1]


@pytest.mark.parametrize("prompt", [1, 2, 9, 40])
def test_prefill_then_steps_equal_one_pass(engine: CpuEngine, prompt: int) -> None:
    ids = tokens(41, TINY.vocab_size)
    whole_state, state = engine.new_state(), engine.new_state()
    whole = engine.forward(ids, whole_state, every=True)
    parts = [engine.forward(ids[:prompt], state)] + [engine.forward([token], state) for token in ids[prompt:]]
    assert (np.stack(parts) == whole[prompt - 1 :]).all()
    assert (state == whole_state).all()


@pytest.mark.parametrize("length", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 37])
def test_long_prompts_in_chunks_equal_single_steps(engine: CpuEngine, length: int) -> None:
    ids = tokens(length, TINY.vocab_size)
    state, steps = engine.new_state(), engine.new_state()
    every = engine.forward(ids, state, every=True)
    single = np.stack([engine.forward([token], steps) for token in ids])
    assert (every == single).all()
    assert (engine.forward(ids, engine.new_state()) == single[-1]).all()
    assert (state == steps).all()


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_threads_and_instruction_sets_change_no_bit(
    config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = PackedCheckpoint.open(packed_folder(tmp_path, config))
    ids = tokens(21, config.vocab_size)
    found = set()
    for isa in ISAS:
        monkeypatch.setenv(ISA_VARIABLE, isa)
        for threads in (1, 2, 3):
            engine = CpuEngine(packed, threads=threads)
            assert engine.backend == f"cpu {isa}, {threads} thread{'s' if threads > 1 else ''}"
            state = engine.new_state()
            every = engine.forward(ids, state, every=True)
            found.add((every.tobytes(), state.tobytes(), engine.forward(ids[:1], state).tobytes()))
    assert len(found) == 1


@pytest.mark.parametrize("batch", [1, 2, 3, 16, 64, CHUNK + 1])
def test_a_batch_equals_its_sequences_one_by_one(engine: CpuEngine, batch: int) -> None:
    """Sequences of different lengths and contents, some steps together."""
    states = [engine.new_state() for _ in range(batch)]
    for b, state in enumerate(states):
        engine.forward(tokens(1 + b % 5, TINY.vocab_size, seed=b), state)
    alone = [state.copy() for state in states]
    for step in range(3):
        ids = tokens(batch, TINY.vocab_size, seed=1000 + step)
        together = engine.step(ids, states)
        single = [engine.forward([token], state) for token, state in zip(ids, alone, strict=True)]
        assert (together == np.stack(single)).all()
    assert all((a == b).all() for a, b in zip(states, alone, strict=True))


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_a_batch_changes_no_bit_on_any_instruction_set_or_threads(
    config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = PackedCheckpoint.open(packed_folder(tmp_path, config))
    found = set()
    for isa in ISAS:
        monkeypatch.setenv(ISA_VARIABLE, isa)
        for threads in (1, 3):
            engine = CpuEngine(packed, threads=threads)
            states = [engine.new_state() for _ in range(11)]
            logits = [engine.step(tokens(11, config.vocab_size, seed), states).tobytes() for seed in range(3)]
            found.add((*logits, *(state.tobytes() for state in states)))
    assert len(found) == 1


def test_a_step_of_the_twin_equals_its_forward(packed: Path) -> None:
    twin = NaiveEngine(PackedCheckpoint.open(packed))
    states, alone = ([twin.new_state() for _ in range(2)] for _ in range(2))
    logits = twin.step([4, 5], states)
    assert (logits == np.stack([twin.forward([4], alone[0]), twin.forward([5], alone[1])])).all()
    assert (states[1] == alone[1]).all()


def test_long_chunks_of_a_narrow_model_equal_single_steps(tmp_path: Path) -> None:
    engine = CpuEngine(PackedCheckpoint.open(packed_folder(tmp_path, CONFIGS[1])))
    ids = tokens(2 * CHUNK, CONFIGS[1].vocab_size)
    state = engine.new_state()
    single = np.stack([engine.forward([token], state) for token in ids])
    assert (engine.forward(ids, engine.new_state(), every=True) == single).all()


def test_steps_that_do_not_fit_their_states_are_refused(engine: CpuEngine) -> None:
    state = engine.new_state()
    with pytest.raises(UsageError, match="2 ids came with 1 states: give each sequence one of each"):
        engine.step([1, 2], [state])
    with pytest.raises(UsageError, match="two sequences share one state"):
        engine.step([1, 2], [state, state])
    with pytest.raises(UsageError, match="ids of shape"):
        engine.step([], [])
    with pytest.raises(UsageError, match="state is"):
        engine.step([1], [state[:1]])


def test_state_copied_and_restored_branches_a_text(engine: CpuEngine) -> None:
    state = engine.new_state()
    engine.forward(tokens(12, TINY.vocab_size), state)
    saved = state.copy()
    first = engine.forward([5, 6, 7], state)
    engine.forward([8, 9], state)
    assert (engine.forward([5, 6, 7], saved) == first).all()


def test_two_python_threads_may_share_an_engine(engine: CpuEngine) -> None:
    jobs = [tokens(30, TINY.vocab_size, seed) for seed in range(8)]
    alone = [engine.forward(ids, engine.new_state()) for ids in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda ids: engine.forward(ids, engine.new_state()), jobs))
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


READ = """
import pathlib, sys
from unmul.checkpoint import PackedCheckpoint
from unmul.engine.cpu import CpuEngine
from unmul.machine import peak_rss_bytes

engine = CpuEngine(PackedCheckpoint.open(pathlib.Path(sys.argv[1])), threads=1)
state, ids = engine.new_state(), [k * 7919 % engine.config.vocab_size for k in range(10_000)]
for left in range(int(sys.argv[2]), 0, -len(ids)):
    engine.forward(ids[:left], state)
print(peak_rss_bytes())
"""


def test_a_million_tokens_take_the_memory_of_ten(tmp_path: Path) -> None:
    folder = packed_folder(tmp_path, ModelConfig(vocab_size=64, hidden_size=64, num_hidden_layers=1))
    run = [sys.executable, "-c", READ, str(folder)]
    ten, million = (int(subprocess.check_output([*run, str(count)])) for count in (10, 1_000_000))
    assert million - ten < 8 * 2**20  # one chunk's activations and some Python objects


@pytest.mark.parametrize(
    ("ids", "problem"),
    [
        ([], "ids of shape"),
        ([[1, 2]], "ids of shape"),
        ([1.5], "ids of type float64"),
        ([-1], "token id -1"),
        ([TINY.vocab_size], f"token id {TINY.vocab_size}"),
        ([2**40], f"token id {2**40}"),
    ],
)
def test_ids_that_are_no_tokens_are_refused(engine: CpuEngine, ids: list, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        engine.forward(ids, engine.new_state())


def test_states_of_another_shape_or_type_are_refused(engine: CpuEngine) -> None:
    state = engine.new_state()
    frozen = state.copy()
    frozen.flags.writeable = False
    for wrong in (state[:1], state.astype(np.float64), state.ravel(), None, frozen, np.asfortranarray(state)):
        with pytest.raises(UsageError, match="state is"):
            engine.forward([1], wrong)


def test_open_engine_refuses_what_it_cannot_serve(packed: Path, latent: Path) -> None:
    with pytest.raises(UsageError, match="device 'tpu' has no engine: choose cpu or cuda"):
        open_engine(packed, device="tpu")
    with pytest.raises(UsageError, match="threads 0 cannot be used"):
        open_engine(packed, threads=0)
    with pytest.raises(CheckpointError, match=r"is not packed: unmul pack .* PACKED"):
        open_engine(latent)


def test_unknown_instruction_set_is_refused_by_name(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ISA_VARIABLE, "mmx")
    with pytest.raises(EngineError, match=f"UNMUL_ISA=mmx cannot run here: choose one of {', '.join(ISAS)}"):
        open_engine(packed)


@pytest.mark.parametrize("isa", ISAS)
def test_forced_instruction_set_runs_in_a_process_of_its_own(packed: Path, isa: str) -> None:
    code = "import sys, pathlib, unmul.engine as e; print(e.open_engine(pathlib.Path(sys.argv[1])).backend)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(packed)], env={**os.environ, ISA_VARIABLE: isa}, capture_output=True, text=True
    )
    assert done.stdout.startswith(f"cpu {isa}, "), done.stderr

"""The CUDA engine against the CPU engine, to the bit: on a GPU where there is one, and on an emulated one."""

# B sequences, T tokens, L layers, D width, E width of the token mixer

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from emulated import EmulatedDevice
from models import latent_folder, latent_tensors
from tolerance import ENGINE_LOGITS, relative_l2

from unmul.checkpoint import PackedCheckpoint, pack
from unmul.config import ModelConfig
from unmul.engine.base import Writer
from unmul.engine.cpu import CpuEngine
from unmul.engine.cuda import CudaEngine
from unmul.engine.cuda import prefill as prefill_module
from unmul.engine.cuda.device import Gpu
from unmul.engine.naive import NaiveEngine
from unmul.engine.sampler import Sampler, SamplingParams
from unmul.errors import EngineError, UsageError

HAS_GPU = Path("/dev/nvidiactl").exists()
NARROW = ModelConfig(vocab_size=131, hidden_size=42, intermediate_size=77, num_hidden_layers=2)
WIDE = ModelConfig(vocab_size=257, hidden_size=160, intermediate_size=300, num_hidden_layers=1)
# No width is a multiple of 5, 16 or 128. The second needs several tiles a row; the third has E of two tiles under I of
# three; the last has E above I and above three padded rows of D.
CONFIGS = {
    "narrow": NARROW,
    "wide": WIDE,
    "twice": replace(WIDE, hidden_size=90, expand_ratio=2),
    "tenfold": replace(NARROW, expand_ratio=10),
}
SAMPLINGS = [
    SamplingParams(temperature=0),
    SamplingParams(temperature=0.8, seed=3),
    SamplingParams(temperature=1, top_k=9, top_p=1, seed=4),
    SamplingParams(temperature=3, top_k=0, top_p=1, seed=5),
]


@pytest.fixture(scope="module", params=["emulated", pytest.param("gpu", marks=pytest.mark.gpu)])
def open_engines(request, tmp_path_factory):
    """A function from the name of a shape to the CUDA engine and the CPU engine over one packed folder."""
    if request.param == "gpu" and not HAS_GPU:
        pytest.skip("no NVIDIA GPU")
    folder = tmp_path_factory.mktemp("cuda")

    @cache
    def engines(name: str) -> tuple[CudaEngine, CpuEngine]:
        pack(latent_folder(folder / f"{name}.latent", CONFIGS[name]), folder / name)
        packed = PackedCheckpoint.open(folder / name)
        device = Gpu() if request.param == "gpu" else EmulatedDevice(folder / "kernels")
        return CudaEngine(packed, device=device), CpuEngine(packed)

    return engines


def tokens(count: int, vocabulary: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, vocabulary, count).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_token_by_token_equals_the_cpu(open_engines, name: str) -> None:
    engines = open_engines(name)
    states = [engine.new_state() for engine in engines]
    for token in tokens(5, CONFIGS[name].vocab_size):
        mine, other = (engine.forward([token], state) for engine, state in zip(engines, states, strict=True))
        assert (mine == other).all()
    assert (states[0] == states[1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_prompt_equals_the_cpu(open_engines, name: str) -> None:
    engines, ids = open_engines(name), tokens(39, CONFIGS[name].vocab_size)
    states = [engine.new_state() for engine in engines]
    every = [engine.forward(ids, state, every=True) for engine, state in zip(engines, states, strict=True)]
    assert (every[0] == every[1]).all()
    assert (states[0] == states[1]).all()
    assert (engines[0].forward(ids, engines[0].new_state()) == every[0][-1]).all()


@pytest.mark.slow
def test_a_prompt_in_chunks_and_then_steps_equal_one_pass(open_engines, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = open_engines("narrow")
    ids = tokens(13, CONFIGS["narrow"].vocab_size)
    state, whole = mine.new_state(), other.forward(ids, other.new_state(), every=True)
    monkeypatch.setattr("unmul.engine.cuda.engine.CHUNK", 5)
    monkeypatch.setattr(prefill_module, "HEAD_TOKENS", 3)
    assert (mine.forward(ids[:11], state, every=True) == whole[:11]).all()
    assert (mine.forward(ids[11:12], state) == whole[11]).all()
    assert (mine.forward(ids[12:], state) == whole[12]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "batch"), [*[("narrow", batch) for batch in (2, 3, 9, 17, 33)], ("tenfold", 2), ("tenfold", 3)]
)
def test_a_batch_equals_the_cpu(open_engines, name: str, batch: int) -> None:
    """Each batch is another variant of the decoder; its sequences have read texts of different lengths."""
    engines = open_engines(name)
    states = [engines[1].new_state() for _ in range(batch)]
    for b, state in enumerate(states):
        engines[1].forward(tokens(1 + b % 5, 131, seed=b), state)
    both = [[state.copy() for state in states] for _ in engines]
    for step in range(2):
        ids = tokens(batch, 131, seed=1000 + step)
        mine, other = (engine.step(ids, own) for engine, own in zip(engines, both, strict=True))
        assert (mine == other).all()
    assert all((a == b).all() for a, b in zip(*both, strict=True))


@pytest.mark.slow
def test_more_sequences_than_one_launch_takes_go_in_several(open_engines, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = open_engines("narrow")
    monkeypatch.setattr("unmul.engine.cuda.engine.MOST_SEQUENCES", 2)
    states = [[engine.new_state() for _ in range(5)] for engine in (mine, other)]
    assert (mine.step([1, 2, 3, 4, 5], states[0]) == other.step([1, 2, 3, 4, 5], states[1])).all()
    assert (states[0][4] == states[1][4]).all()


@pytest.mark.slow
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda s: f"{s.temperature}-{s.top_k}-{s.top_p}")
def test_what_it_writes_is_what_the_sampler_draws(open_engines, sampling: SamplingParams) -> None:
    mine, other = open_engines("narrow")
    samplers, states = [Sampler(sampling) for _ in range(2)], [mine.new_state() for _ in range(2)]
    written = mine.write([5], [states[0]], [samplers[0]], count=4)[:, 0].tolist()
    assert written == drawn(other, 5, states[1], samplers[1], 4)
    assert (states[0] == states[1]).all()
    assert (
        mine.write([written[-1]], [states[0]], [samplers[0]], count=1)[0, 0]
        == (drawn(other, written[-1], states[1], samplers[1], 1)[0])
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "batch"), [("wide", 2), ("narrow", 3), ("narrow", 9)])
def test_texts_that_are_drawn_together_are_those_drawn_alone(open_engines, name: str, batch: int) -> None:
    """With two texts a team of blocks draws for each, with nine a block draws for several."""
    mine, other = open_engines(name)
    kinds = [SAMPLINGS[b % len(SAMPLINGS)] for b in range(batch)]
    samplers = [[Sampler(replace(kind, seed=b)) for b, kind in enumerate(kinds)] for _ in range(2)]
    states = [[engine.new_state() for _ in range(batch)] for engine in (mine, other)]
    written = mine.write([*range(batch)], states[0], samplers[0], count=3)
    for b in range(batch):
        assert written[:, b].tolist() == drawn(other, b, states[1][b], samplers[1][b], 3)


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [SamplingParams(top_k=9, top_p=1, seed=1), SamplingParams(top_p=0.1, seed=2)])
def test_equal_logits_are_cut_by_their_ids(tmp_path: Path, sampling: SamplingParams) -> None:
    config = CONFIGS["wide"]
    tensors = latent_tensors(config)
    tensors["lm_head.weight"][:] = 0
    pack(latent_folder(tmp_path / "latent", config, tensors=tensors), tmp_path / "packed")
    packed = PackedCheckpoint.open(tmp_path / "packed")
    mine, other = CudaEngine(packed, device=EmulatedDevice(tmp_path / "kernels")), CpuEngine(packed)
    written = mine.write([5], [mine.new_state()], [Sampler(sampling)], count=4)[:, 0].tolist()
    assert written == drawn(other, 5, other.new_state(), Sampler(sampling), 4)
    assert len(set(written)) > 1
    assert max(written) < 26


def drawn(engine: CpuEngine, token: int, state: np.ndarray, sampler: Sampler, count: int) -> list[int]:
    found = []
    for _ in range(count):
        token = sampler.sample(engine.forward([token], state))
        found.append(token)
    return found


@pytest.mark.slow
def test_texts_end_one_by_one_and_their_states_stay(open_engines) -> None:
    """Of two texts one draws its end token first: it is not read, and nothing of that text changes after it."""
    mine, other = open_engines("narrow")
    states = [[engine.new_state() for _ in range(2)] for engine in (mine, other)]
    samplers = [[Sampler(SamplingParams(seed=seed)) for seed in (1, 2)] for _ in range(2)]
    texts = [drawn(other, 5 + b, states[1][b].copy(), Sampler(SamplingParams(seed=b + 1)), 4) for b in range(2)]
    end = texts[0][1]
    assert end not in texts[1]
    written = mine.write([5, 6], states[0], samplers[0], count=4, end=end)
    assert written[:, 0].tolist() == [*texts[0][:2], -1, -1]
    assert written[:, 1].tolist() == texts[1]
    drawn(other, 5, states[1][0], samplers[1][0], 2)
    drawn(other, 6, states[1][1], samplers[1][1], 4)
    assert all((a == b).all() for a, b in zip(*states, strict=True))
    assert [s.random.state for s in samplers[0]] == [s.random.state for s in samplers[1]]


@pytest.mark.slow
def test_texts_that_have_all_ended_stop_the_launch(open_engines) -> None:
    mine, other = open_engines("narrow")
    end = drawn(other, 5, other.new_state(), Sampler(SamplingParams(temperature=0)), 1)[0]
    written = mine.write([5], [mine.new_state()], [Sampler(SamplingParams(temperature=0))], count=50, end=end)
    assert written[:, 0].tolist() == [end, *[-1] * 49]


@pytest.mark.slow
def test_a_damaged_state_is_an_error_and_not_a_text(open_engines) -> None:
    mine, _ = open_engines("narrow")
    state = mine.new_state()
    state[0, 3] = np.nan
    for sampling in (SamplingParams(temperature=0), SamplingParams(seed=1)):
        with pytest.raises(EngineError, match="NaN or infinity"):
            mine.write([5], [state.copy()], [Sampler(sampling)], count=3)


@pytest.mark.slow
def test_calls_that_make_no_sense_are_refused(open_engines) -> None:
    mine, _ = open_engines("narrow")
    state, sampler = mine.new_state(), Sampler(SamplingParams())
    assert isinstance(mine, Writer)
    with pytest.raises(UsageError, match="token id 131 is not in the model"):
        mine.forward([131], state)
    with pytest.raises(UsageError, match="two sequences share one state"):
        mine.step([1, 2], [state, state])
    with pytest.raises(UsageError, match="65 texts at once: write at most 64"):
        mine.write([1] * 65, [mine.new_state() for _ in range(65)], [sampler] * 65, count=1)
    with pytest.raises(UsageError, match="0 tokens at once of 1 texts: choose 1 to 65536"):
        mine.write([1], [state], [sampler], count=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["narrow", "twice"])
def test_logits_are_near_the_naive_ones(open_engines, tmp_path: Path, name: str) -> None:
    """The CPU engine is compared with the definition elsewhere; this is a check without it."""
    mine, _ = open_engines(name)
    pack(latent_folder(tmp_path / "latent", CONFIGS[name]), tmp_path / "packed")
    naive = NaiveEngine(PackedCheckpoint.open(tmp_path / "packed"))
    assert relative_l2(mine.forward([7], mine.new_state()), naive.forward([7], naive.new_state())) < ENGINE_LOGITS


def test_an_option_without_kernels_is_refused_before_a_gpu_is_looked_for(tmp_path) -> None:
    pack(latent_folder(tmp_path / "latent", replace(CONFIGS["narrow"], use_state_norm=True)), tmp_path / "packed")
    with pytest.raises(EngineError, match="use_state_norm has no CUDA kernels: run this model with --device cpu"):
        CudaEngine(PackedCheckpoint.open(tmp_path / "packed"))

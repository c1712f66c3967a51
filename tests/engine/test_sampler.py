"""The native sampler against its twin, token for token, and both against the probabilities they stand for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmul.engine import _native
from unmul.engine.sampler import Sampler, SamplingParams, SplitMix64, naive_sample
from unmul.errors import EngineError, UsageError


def native_sample(logits: np.ndarray, params: SamplingParams, uniform: float) -> int:
    return _native.sample(logits, params.temperature, params.top_k, params.top_p, uniform)


@settings(deadline=None, max_examples=300)
@given(
    size=st.integers(1, 700),
    seed=st.integers(0, 2**32),
    grid=st.sampled_from([0.5, 2.0, 1e3]),  # coarse grids make ties
    temperature=st.sampled_from([0.0, 0.01, 0.7, 1.0, 30.0]),
    top_k=st.integers(0, 800),
    top_p=st.sampled_from([1e-9, 0.1, 0.5, 0.9, 0.999, 1.0]),
    uniform=st.floats(0, 1, exclude_max=True),
)
def test_native_sampler_chooses_as_its_twin(
    size: int, seed: int, grid: float, temperature: float, top_k: int, top_p: float, uniform: float
) -> None:
    logits = (np.round(np.random.default_rng(seed).normal(0, 3, size) * grid) / grid).astype(np.float32)
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p)
    assert native_sample(logits, params, uniform) == naive_sample(logits, params, uniform)


@pytest.mark.parametrize("top_k", [0, 1, 40, 31999])
@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.3])
def test_native_sampler_chooses_as_its_twin_among_32000_tokens(top_k: int, top_p: float) -> None:
    logits = np.random.default_rng(1).normal(0, 2, 32000).astype(np.float32)
    params = SamplingParams(temperature=0.9, top_k=top_k, top_p=top_p)
    for uniform in (0.0, 0.25, 0.999999):
        assert native_sample(logits, params, uniform) == naive_sample(logits, params, uniform)


def test_greedy_takes_the_largest_and_of_equals_the_lowest_id() -> None:
    sampler = Sampler(SamplingParams(temperature=0))
    assert sampler.sample(np.array([0, 3, 1, 3], np.float32)) == 1


def test_top_k_one_is_greedy_whatever_the_temperature() -> None:
    sampler = Sampler(SamplingParams(temperature=100, top_k=1, seed=0))
    assert {sampler.sample(np.array([0, 3, 1, 3], np.float32)) for _ in range(20)} == {1}


def test_draws_follow_the_probabilities() -> None:
    logits = np.array([0, 1, 2, -1], np.float32)
    sampler = Sampler(SamplingParams(temperature=0.5, top_p=1.0, seed=11))
    draws = 20_000
    counts = np.bincount([sampler.sample(logits) for _ in range(draws)], minlength=4)
    expected = np.exp(logits / 0.5) / np.exp(logits / 0.5).sum()
    # Five standard deviations of a binomial count, with a fixed seed.
    assert (np.abs(counts - draws * expected) < 5 * np.sqrt(draws * expected * (1 - expected)) + 1).all()


def test_top_p_keeps_the_shortest_beginning_that_reaches_it() -> None:
    logits = np.log(np.array([0.1, 0.4, 0.3, 0.2], np.float32))
    sampler = Sampler(SamplingParams(temperature=1, top_p=0.65, seed=0))
    assert {sampler.sample(logits) for _ in range(200)} == {1, 2}


def test_one_seed_gives_one_text_and_no_seed_many() -> None:
    logits = np.zeros(1000, np.float32)
    first, second = (Sampler(SamplingParams(seed=5)) for _ in range(2))
    assert [first.sample(logits) for _ in range(9)] == [second.sample(logits) for _ in range(9)]
    assert len({Sampler(SamplingParams()).sample(logits) for _ in range(20)}) > 1


def test_splitmix_gives_the_published_words() -> None:
    random = SplitMix64(1234567)
    words = [6457827717110365317, 3203168211198807973, 9817491932198370423]  # of the generator's reference code
    assert [random.uniform() for _ in words] == [(word >> 11) * 2.0**-53 for word in words]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(value: float) -> None:
    logits = np.array([0, value, 1], np.float32)
    with pytest.raises(EngineError, match="NaN or infinity"):
        Sampler(SamplingParams(seed=1)).sample(logits)
    with pytest.raises(EngineError, match="NaN or infinity"):
        naive_sample(logits, SamplingParams(seed=1), 0.5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1), ("temperature", float("nan")), ("temperature", float("inf")), ("temperature", "1"),
        ("top_k", -1), ("top_k", 1.5), ("top_p", 0), ("top_p", 1.1), ("top_p", float("nan")),
        ("seed", -1), ("seed", 2**64), ("seed", 0.5), ("seed", True),
    ],
)  # fmt: skip
def test_parameters_out_of_range_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=rf"^{field} .* cannot be used: choose"):
        SamplingParams(**{field: value})

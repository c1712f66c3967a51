"""Texts that an engine draws ahead are those that are drawn one by one, wherever they end, and so is the state."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from unmul.checkpoint import PackedCheckpoint
from unmul.engine.base import Writer
from unmul.engine.cpu import CpuEngine
from unmul.engine.sampler import Sampler, SamplingParams
from unmul.errors import EngineError
from unmul.runtime.ahead import AHEAD
from unmul.runtime.model import Model


class WritingEngine(CpuEngine):
    """The CPU engine with a `write` by its definition."""

    def write(self, ids: Sequence[int], states, samplers: Sequence[Sampler], *, count: int, end: int | None = None):
        written = np.full((count, len(ids)), -1, np.int32)
        for b, (token, state, sampler) in enumerate(zip(ids, states, samplers, strict=True)):
            for step in range(count):
                token = written[step, b] = sampler.sample(self.forward([int(token)], state))
                if token == end:
                    break
        return written


@pytest.fixture
def models(speaker: Path) -> list[Model]:
    packed = PackedCheckpoint.open(speaker)
    return [Model(speaker, kind(packed)) for kind in (WritingEngine, CpuEngine)]


@pytest.mark.parametrize("sampling", [SamplingParams(temperature=0), SamplingParams(seed=4), SamplingParams(seed=7)])
@pytest.mark.parametrize("count", [1, 2, AHEAD, AHEAD + 1, 3 * AHEAD])
def test_text_tokens_and_state_are_the_same(models: list[Model], sampling: SamplingParams, count: int) -> None:
    assert isinstance(models[0]._engine, Writer)
    assert not isinstance(models[1]._engine, Writer)
    texts = ["".join(model.generate("Once upon", max_new_tokens=count, sampling=sampling)) for model in models]
    assert texts[0] == texts[1]
    assert models[0].last.new_ids == models[1].last.new_ids
    assert (models[0].state == models[1].state).all()
    more = ["".join(model.generate(" and", max_new_tokens=5, sampling=sampling, resume=True)) for model in models]
    assert more[0] == more[1]


def test_a_stop_string_ends_text_and_state_at_the_same_token(models: list[Model]) -> None:
    sampling = SamplingParams(seed=4)
    whole = "".join(models[1].generate("Once upon", max_new_tokens=AHEAD, sampling=sampling))
    stop = whole[3:5]
    texts = ["".join(model.generate("Once upon", max_new_tokens=64, sampling=sampling, stop=stop)) for model in models]
    assert texts[0] == texts[1] == whole[: whole.index(stop)]
    assert (models[0].state == models[1].state).all()


@pytest.mark.parametrize("pieces", [1, 4])
def test_a_reader_who_leaves_finds_the_state_where_it_stopped_reading(models: list[Model], pieces: int) -> None:
    for model in models:
        stream = model.generate("Once upon", max_new_tokens=64, sampling=SamplingParams(seed=4))
        for _ in range(pieces):
            next(stream)
        stream.close()
    assert models[0].last.new_ids == models[1].last.new_ids
    assert (models[0].state == models[1].state).all()


def test_a_text_that_draws_its_end_token_stops_there(models: list[Model]) -> None:
    end = models[0].config.eos_token_id
    for seed in range(40):
        for model in models:
            "".join(model.generate("Once", max_new_tokens=200, sampling=SamplingParams(temperature=2, seed=seed)))
        assert models[0].last.new_ids == models[1].last.new_ids
        assert (models[0].state == models[1].state).all()
        if len(models[0].last.new_ids) < 200:
            assert end not in models[0].last.new_ids
            return
    pytest.fail("no text ended by itself")


def test_an_error_while_writing_leaves_the_state_before_it(models: list[Model], monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise EngineError("the GPU is gone", "look for it")

    monkeypatch.setattr(models[0]._engine, "write", fail)
    with pytest.raises(EngineError, match="the GPU is gone"):
        list(models[0].generate("Once", max_new_tokens=5, sampling=SamplingParams(seed=1)))
    assert np.isfinite(models[0].state).all()

"""unmul.load and Model: generation, logits, and a state that can be kept, carried and continued."""

from dataclasses import replace

import numpy as np
import pytest
from speakers import SPEAKER, speaking_packed

import unmul
from unmul import SamplingParams
from unmul.engine import open_engine
from unmul.errors import CheckpointError, TokenizerError, UsageError
from unmul.runtime.text import encode

GREEDY = SamplingParams(temperature=0)


@pytest.fixture
def model(speaker):
    return unmul.load(speaker)


def test_generation_is_the_engines_greedy_continuation(model, speaker):
    text = "".join(model.generate("Once upon a", max_new_tokens=20, sampling=GREEDY))
    engine = open_engine(speaker)
    state = engine.new_state()
    ids = [0, *encode(model.tokenizer, "Once upon a")]
    expected = []
    logits = engine.forward(ids, state)
    while len(expected) < 20 and (token := int(logits.argmax())) != SPEAKER.eos_token_id:
        expected.append(token)
        logits = engine.forward([token], state)
    assert model.last.prompt_ids == ids
    assert model.last.new_ids == expected
    assert model.tokenizer.decode(expected).startswith(text)
    assert np.array_equal(model.state, state)


def test_pieces_come_one_by_one(model):
    pieces = model.generate("The sun", max_new_tokens=30, sampling=GREEDY)
    next(pieces)
    assert len(model.last.new_ids) < 30


def test_the_same_seed_gives_the_same_text(model):
    texts = {"".join(model.generate("The", sampling=SamplingParams(seed=7), max_new_tokens=40)) for _ in range(2)}
    assert len(texts) == 1


def test_each_call_begins_anew_unless_it_resumes(model):
    list(model.generate("The sun", max_new_tokens=5, sampling=GREEDY))
    kept = model.state
    list(model.generate(" rose", max_new_tokens=5, sampling=GREEDY, resume=True))
    resumed = model.last.new_ids
    assert model.last.prompt_ids == encode(model.tokenizer, " rose")
    model.state = kept
    list(model.generate(" rose", max_new_tokens=5, sampling=GREEDY, resume=True))
    assert model.last.new_ids == resumed
    list(model.generate(" rose", max_new_tokens=5, sampling=GREEDY))
    assert model.last.prompt_ids[0] == SPEAKER.bos_token_id


class Scripted:
    """An engine that always wants the next token of a script."""

    config = SPEAKER
    backend = "script"

    def __init__(self, *script: int) -> None:
        self.script = script
        self.read: list[int] = []

    def new_state(self):
        return np.zeros((2, 64), np.float32)

    def forward(self, ids, state, *, every=False):
        self.read += ids
        return np.eye(SPEAKER.vocab_size, dtype=np.float32)[self.script[min(len(self.read), len(self.script)) - 1]]


def test_the_text_ends_at_the_end_token_which_is_not_part_of_it(speaker):
    engine = Scripted(0, 65, 66, SPEAKER.eos_token_id, 67)
    model = unmul.Model(speaker, engine)
    list(model.generate("A", sampling=GREEDY))
    assert model.last.new_ids == [65, 66]
    assert engine.read == [*model.last.prompt_ids, 65, 66]


def test_a_stop_string_ends_the_text(model):
    whole = "".join(model.generate("Once", max_new_tokens=30, sampling=GREEDY))
    stop = whole[5:7]
    cut = "".join(model.generate("Once", max_new_tokens=30, sampling=GREEDY, stop=stop))
    assert cut == whole[: whole.index(stop)]


def test_logits_are_those_of_an_empty_state_and_leave_the_kept_one(model):
    list(model.generate("Once", max_new_tokens=3))
    kept = model.state
    first, second = model.logits([1, 2, 3]), model.logits([1, 2, 3])
    assert first.shape == (3, SPEAKER.vocab_size)
    assert first.dtype == np.float32
    assert np.array_equal(first, second)
    assert np.array_equal(model.state, kept)


def test_rates_are_counted(model):
    list(model.generate("Once upon", max_new_tokens=8, sampling=GREEDY))
    last = model.last
    assert last.prefill_tokens_per_s == pytest.approx(len(last.prompt_ids) / last.prefill_s)
    assert last.decode_tokens_per_s == pytest.approx(len(last.new_ids) / last.decode_s)
    assert unmul.runtime.Generation([]).decode_tokens_per_s == 0


@pytest.mark.parametrize("config", [SPEAKER, replace(SPEAKER, expand_ratio=2)], ids=["plain", "wide"])
def test_a_state_survives_its_file_and_goes_on_as_before(config, tmp_path):
    folder = speaking_packed(tmp_path / "speaker", config)
    model, other = unmul.load(folder), unmul.load(str(folder))
    list(model.generate("The sun", max_new_tokens=5, sampling=GREEDY))
    model.save_state(tmp_path / "talk.state")
    list(model.generate(" rose", max_new_tokens=6, sampling=GREEDY, resume=True))
    other.load_state(tmp_path / "talk.state")
    list(other.generate(" rose", max_new_tokens=6, sampling=GREEDY, resume=True))
    assert other.last.new_ids == model.last.new_ids
    assert np.array_equal(other.state, model.state)


def test_a_state_of_another_model_is_refused(model, tmp_path):
    model.save_state(tmp_path / "talk.state")
    other = unmul.load(speaking_packed(tmp_path / "other", seed=5))
    with pytest.raises(UsageError, match="made by another model"):
        other.load_state(tmp_path / "talk.state")


def test_weights_are_no_state(model, speaker):
    with pytest.raises(UsageError, match="holds no state"):
        model.load_state(speaker / "model.safetensors")


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (np.zeros((2, 63), np.float32), r"float32 \[2, 63\] does not fit"),
        (np.zeros((2, 64), np.float64), r"float64 \[2, 64\] does not fit"),
        (np.full((2, 64), np.nan, np.float32), "NaN"),
    ],
    ids=["shape", "dtype", "nan"],
)
def test_an_array_that_is_no_state_is_refused(model, state, problem):
    with pytest.raises(UsageError, match=problem):
        model.state = state


def test_a_kept_state_is_a_copy(model):
    model.state[:] = 1
    assert not model.state.any()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": "a", "max_new_tokens": 0}, "max_new_tokens 0"),
        ({"prompt": "a", "stop": [""]}, "stop string is empty"),
        ({"prompt": "\ud800"}, "not valid UTF-8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_arguments_are_refused_at_the_call(model, arguments, problem):
    with pytest.raises(UsageError, match=problem):
        model.generate(**arguments)


def test_a_folder_without_tokenizer_gives_logits_and_no_text(packed):
    model = unmul.load(packed)
    assert model.logits([1, 2]).shape == (2, 131)
    with pytest.raises(TokenizerError, match=r"has no tokenizer\.json"):
        model.generate("a")


def test_a_prompt_of_any_length_leaves_a_state_of_the_same_size(model):
    list(model.generate("one by one " * 3000, max_new_tokens=2))
    assert len(model.last.prompt_ids) > 5000
    assert model.state.shape == (2, 64)


def test_a_missing_embedded_model_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("unmul.runtime.model.DEFAULT_MODEL", tmp_path / "none")
    with pytest.raises(CheckpointError, match="has no model none"):
        unmul.load()


def test_the_embedded_model_is_the_default(monkeypatch, speaker):
    monkeypatch.setattr("unmul.runtime.model.DEFAULT_MODEL", speaker)
    assert unmul.load().folder == speaker

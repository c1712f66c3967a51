"""A model without a state as something to measure: one token of several texts is one of each alone."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from models import TINY
from tolerance import BF16_STEPS, FLOAT32_SUMS, relative_l2
from transformers import LlamaConfig, LlamaForCausalLM

from unmul.errors import UsageError
from unmul.evaluate import bits, open_any, windows
from unmul.evaluate.score import Pair, score
from unmul.evaluate.windows import WindowEngine

WINDOW, VOCABULARY = 6, 11
TABLE = torch.randn((VOCABULARY, VOCABULARY), generator=torch.Generator().manual_seed(0))


def predict(ids_BT):
    """Logits that depend on every token of the window so far, and on nothing after it."""
    return TABLE[ids_BT].cumsum(1)


def test_a_step_of_texts_of_any_length_is_one_token_of_each_alone():
    shape = replace(TINY, vocab_size=VOCABULARY, max_position_embeddings=WINDOW)
    engine = WindowEngine(predict, shape, "cpu")
    lengths = (1, 3, WINDOW - 1, WINDOW, 2 * WINDOW)
    together, alone = [], []
    for states in (together, alone):
        for length in lengths:
            states.append(engine.new_state())
            engine.forward([k % VOCABULARY for k in range(length)], states[-1])
    for round_ in range(3):
        ids = [(round_ + k) % VOCABULARY for k in range(len(lengths))]
        logits = engine.step(ids, together)
        for row, token, state in zip(logits, ids, alone, strict=True):
            assert (row == engine.forward([token], state)).all()
        assert together == alone


def test_tokens_are_scored_where_the_logits_are():
    shape = replace(TINY, vocab_size=VOCABULARY, max_position_embeddings=WINDOW)
    engine, plain = WindowEngine(predict, shape, "cpu"), WindowEngine(predict, shape, "cpu")
    ids = [k % VOCABULARY for k in range(2 * WINDOW + 1)]
    targets, state = [*ids[1:], 0], engine.new_state()
    expected = bits.log2_probabilities(plain.forward(ids, plain.new_state(), every=True), targets)
    np.testing.assert_allclose(engine.log2_probabilities(ids, targets, state), expected, rtol=1e-12)
    assert state == ids[-WINDOW:]


def test_every_token_is_predicted_from_all_before_it_or_from_half_a_window_at_least():
    engine, ids = window_engine(), [k % VOCABULARY for k in range(3 * WINDOW + 1)]
    logits = engine.forward(ids, engine.new_state(), every=True)
    for position, row in enumerate(logits):
        sizes = range(min(position + 1, WINDOW // 2), min(position + 1, WINDOW) + 1)
        seen = [predict(torch.tensor([ids[position + 1 - size : position + 1]]))[0, -1].numpy() for size in sizes]
        assert any((row == one).all() for one in (seen if position >= WINDOW else seen[-1:]))


def window_engine():
    return WindowEngine(predict, replace(TINY, vocab_size=VOCABULARY, max_position_embeddings=WINDOW), "cpu")


@pytest.mark.parametrize("call", [1, 7, 1000])
def test_pairs_are_scored_as_their_whole_texts_whatever_is_read_in_one_call(monkeypatch, call):
    monkeypatch.setattr(windows, "CALL", call)
    engine = window_engine()
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (1, 5), (3, 2), (WINDOW, 1), (1, WINDOW + 1), (2 * WINDOW + 1, 3 * WINDOW), (1, 5)]
    pairs = [Pair(*(rng.integers(0, VOCABULARY, size).tolist() for size in both)) for both in sizes]
    found = dict(score(engine, pairs))
    assert sorted(found) == list(range(len(pairs)))
    for index, (context, continuation) in enumerate(pairs):
        logits = engine.forward([context[-1], *continuation[:-1]], context[:-1][-WINDOW:], every=True)
        expected = math.log(2) * bits.log2_probabilities(logits, continuation).sum()
        assert found[index].log_probability == pytest.approx(expected)
        assert found[index].greedy == (logits.argmax(-1).tolist() == continuation)


def test_an_empty_continuation_is_certain():
    assert dict(score(window_engine(), [Pair([1, 2], []), Pair([0], [])])) == {0: (0.0, True), 1: (0.0, True)}


def test_texts_of_like_length_are_read_together_and_each_once(monkeypatch):
    monkeypatch.setattr(windows, "CALL", 10)
    read = []
    engine = WindowEngine(
        lambda ids_BT: read.append(tuple(ids_BT.shape)) or predict(ids_BT), window_engine().config, "cpu"
    )
    list(score(engine, [Pair([1], [2] * length) for length in (4, 1, 4, 1, 1)]))
    assert read == [(3, 1), (2, 4)]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=131, hidden_size=64, intermediate_size=77, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=WINDOW, initializer_range=0.2, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("llama")
    LlamaForCausalLM(shape).save_pretrained(folder)
    return folder


def test_bf16_is_of_the_layers_products_and_the_head_stays_float32(llama):
    ids = [1, 2, 3, 4]
    logits = []
    for dtype in ("fp32", "bf16"):
        engine = open_any(llama, dtype=dtype)
        assert dtype in engine.backend
        logits.append(engine.forward(ids, engine.new_state(), every=True))
    assert FLOAT32_SUMS < relative_l2(logits[1], logits[0]) < BF16_STEPS
    rounded = torch.from_numpy(logits[1]).bfloat16().float().numpy()
    assert (rounded != logits[1]).mean() > 0.9


def test_bf16_of_anything_but_a_llama_is_refused(latent):
    with pytest.raises(UsageError, match="--dtype bf16 is of a Llama's products"):
        open_any(latent, dtype="bf16")

"""Bits per byte of text through a packed and a latent folder."""

import math

import pytest
from speakers import SPEAKER

from unmul.evaluate import measure_texts, open_any
from unmul.evaluate.bits import log2_probabilities
from unmul.evaluate.latent import TorchEngine
from unmul.runtime import folder_tokenizer

TEXTS = ["Once upon a time there was a hedgehog. 🦔", "The sun rose."]
WINDOW = 5  # tokens: shorter than both texts


@pytest.fixture
def tokenizer(speaker):
    return folder_tokenizer(speaker, SPEAKER)


def test_bits_are_the_surprise_of_each_token_after_the_begin_token(speaker, tokenizer):
    engine = open_any(speaker)
    ids = tokenizer.encode(TEXTS[1]).ids
    logits = engine.forward([0, *ids[:-1]], engine.new_state(), every=True).astype(float)
    expected = sum(
        math.log2(sum(math.exp(v) for v in row)) - row[t] / math.log(2) for row, t in zip(logits, ids, strict=True)
    )
    (total,) = measure_texts(engine, tokenizer, TEXTS[1:], WINDOW)
    assert total.whole.bits == pytest.approx(expected, rel=1e-9)
    assert (total.whole.tokens, total.whole.bytes) == (len(ids), len(TEXTS[1]))


def test_packed_and_latent_folders_agree_on_a_text(speaker, tokenizer):
    latent = open_any(speaker.with_name("packed.latent"))
    assert isinstance(latent, TorchEngine)
    (*_, fine), (*_, packed) = (
        measure_texts(engine, tokenizer, TEXTS, WINDOW) for engine in (latent, open_any(speaker))
    )
    assert [(part.tokens, part.bytes) for part in fine] == [(part.tokens, part.bytes) for part in packed]
    assert [part.bits for part in packed] == pytest.approx(
        [part.bits for part in fine], rel=5e-3
    )  # 8-bit embeddings and bf16 gains


def test_each_text_begins_from_an_empty_state(speaker, tokenizer):
    engine = open_any(speaker)
    (*_, both) = measure_texts(engine, tokenizer, TEXTS, WINDOW)
    alone = [next(measure_texts(engine, tokenizer, [text], WINDOW)) for text in TEXTS]
    assert both == alone[0].plus(alone[1])


def test_the_windowed_figure_empties_the_state_every_so_many_tokens(speaker, tokenizer):
    engine = open_any(speaker)
    ids = tokenizer.encode(TEXTS[1]).ids
    context = [0, *ids[:-1]]
    expected = 0.0
    for start in range(0, len(ids), 3):
        logits = engine.forward(context[start : start + 3], engine.new_state(), every=True)
        expected -= log2_probabilities(logits, ids[start : start + 3]).sum()
    (total,) = measure_texts(engine, tokenizer, TEXTS[1:], 3)
    assert total.windowed.bits == pytest.approx(expected, rel=1e-9)
    assert (total.windowed.tokens, total.windowed.bytes) == (total.whole.tokens, total.whole.bytes)
    assert total.windowed.bits != total.whole.bits


def test_a_text_that_fits_the_window_has_one_figure(speaker, tokenizer):
    length = len(tokenizer.encode(TEXTS[1]).ids)
    (total,) = measure_texts(open_any(speaker), tokenizer, TEXTS[1:], length)
    assert total.windowed == total.whole

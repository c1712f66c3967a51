"""Bits per byte of text through a packed and a latent folder."""

import math

import pytest
from speakers import SPEAKER

from unmul.evaluate import measure_texts, open_any
from unmul.evaluate.latent import TorchEngine
from unmul.runtime import folder_tokenizer

TEXTS = ["Once upon a time there was a hedgehog. 🦔", "The sun rose."]


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
    (total,) = measure_texts(engine, tokenizer, TEXTS[1:])
    assert total.bits == pytest.approx(expected, rel=1e-9)
    assert (total.tokens, total.bytes) == (len(ids), len(TEXTS[1]))


def test_packed_and_latent_folders_agree_on_a_text(speaker, tokenizer):
    latent = open_any(speaker.with_name("packed.latent"))
    assert isinstance(latent, TorchEngine)
    (*_, fine), (*_, packed) = (measure_texts(engine, tokenizer, TEXTS) for engine in (latent, open_any(speaker)))
    assert (fine.tokens, fine.bytes) == (packed.tokens, packed.bytes)
    assert packed.bits == pytest.approx(fine.bits, rel=5e-3)  # 8-bit embeddings and bf16 gains


def test_each_text_begins_from_an_empty_state(speaker, tokenizer):
    engine = open_any(speaker)
    (*_, both) = measure_texts(engine, tokenizer, TEXTS)
    alone = [next(measure_texts(engine, tokenizer, [text])) for text in TEXTS]
    assert both == alone[0] + alone[1]

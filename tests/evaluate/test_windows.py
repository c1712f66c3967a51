"""A model without a state as something to measure: one token of several texts is one of each alone."""

from dataclasses import replace

import numpy as np
import torch
from models import TINY

from unmul.evaluate import bits
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

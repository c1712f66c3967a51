"""evaluate.bits against a model whose probabilities are known by construction."""

import math

import numpy as np
import pytest

from unmul.config import ModelConfig
from unmul.evaluate import Bits, Document, measure

END = 0
CONFIG = ModelConfig(vocab_size=4, hidden_size=1, num_hidden_layers=1, bos_token_id=END, eos_token_id=END)


class Follower:
    """After token a, token b has probability TABLE[a, b]; the state counts the tokens read."""

    TABLE = np.array([[0.1, 0.5, 0.2, 0.2], [0.25, 0.25, 0.25, 0.25], [0.5, 0.25, 0.125, 0.125], [0.7, 0.1, 0.1, 0.1]])
    config = CONFIG
    backend = "table"

    def __init__(self):
        self.states = []
        self.read = []

    def new_state(self):
        self.states.append(np.zeros((1, 1), np.float32))
        return self.states[-1]

    def forward(self, ids, state, *, every=False):
        assert every
        self.read += ids
        state += len(ids)
        return (np.log(self.TABLE[list(ids)]) + 7).astype(np.float32)  # logits need no normalisation


def test_bits_of_a_document_are_minus_log2_of_its_transitions_from_the_end_token():
    (total,) = measure(Follower(), [Document([1, 2, 0], 5)], END)
    assert total.bits == pytest.approx(1 + 2 + 1, rel=1e-6)
    assert (total.tokens, total.bytes) == (3, 5)
    assert total.bits_per_byte == pytest.approx(4 / 5, rel=1e-6)
    assert total.perplexity == pytest.approx(2 ** (4 / 3), rel=1e-6)


def test_every_document_starts_from_the_end_token_in_a_new_state():
    engine = Follower()
    totals = list(measure(engine, [Document([1], 1), Document([2, 3], 2)], END))
    assert engine.read == [END, END, 2]
    assert [int(state[0, 0]) for state in engine.states] == [1, 2]
    assert [total.tokens for total in totals] == [1, 3]


@pytest.mark.parametrize("length", [511, 512, 513, 1025])
def test_long_documents_keep_their_state_across_chunks(length):
    engine = Follower()
    (total,) = measure(engine, [Document([1] * length, length)], END)
    assert len(engine.states) == 1
    assert engine.states[0][0, 0] == length
    assert total.bits == pytest.approx(1 + 2 * (length - 1), rel=1e-6)


def test_no_text_gives_nan_and_an_empty_document_counts_its_bytes():
    assert math.isnan(Bits().bits_per_byte)
    assert math.isnan(Bits().perplexity)
    assert list(measure(Follower(), [Document([], 0)], END)) == [Bits()]

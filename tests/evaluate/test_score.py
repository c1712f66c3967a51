"""Continuations scored from saved states against plain logits of the whole text."""

import math

import numpy as np
import pytest
from tolerance import FLOAT32_SUMS

from unmul.evaluate import open_any
from unmul.evaluate.score import BATCH, POOL, Pair, score


def plain(engine, pair):
    """The definition: read context and continuation in one go, softmax, pick, add."""
    ids = [*pair.context, *pair.continuation]
    logits = engine.forward(ids, engine.new_state(), every=True).astype(np.float64)
    total, greedy = 0.0, True
    for position in range(len(pair.context), len(ids)):
        row = logits[position - 1]
        total += row[ids[position]] - math.log(np.exp(row).sum())
        greedy &= int(row.argmax()) == ids[position]
    return total, greedy


def random_pairs(count, seed=0):
    """Contexts that repeat, continuations of 1 to 7 tokens."""
    rng = np.random.default_rng(seed)
    contexts = [rng.integers(0, 300, length).tolist() for length in (1, 2, 9)]
    return [Pair(contexts[i % 3], rng.integers(0, 300, 1 + i % 7).tolist()) for i in range(count)]


@pytest.mark.parametrize("folder", ["packed", "packed.latent"])
@pytest.mark.parametrize("count", [1, BATCH + 1])
def test_scores_are_those_of_plain_logits(speaker, folder, count):
    engine = open_any(speaker.with_name(folder))
    pairs = random_pairs(count)
    found = dict(score(engine, pairs))
    assert sorted(found) == list(range(count))
    for index, pair in enumerate(pairs):
        expected, _greedy = plain(engine, pair)
        assert found[index].log_probability == pytest.approx(expected, rel=FLOAT32_SUMS)


def test_more_pairs_than_wait_at_once_are_all_scored(speaker):
    engine = open_any(speaker)
    pairs = random_pairs(2 * POOL + 1)
    found = dict(score(engine, pairs))
    assert sorted(found) == list(range(len(pairs)))
    assert found[POOL].log_probability == pytest.approx(plain(engine, pairs[POOL])[0], rel=FLOAT32_SUMS)


def test_greedy_is_said_of_the_likeliest_tokens_only(speaker):
    engine = open_any(speaker)
    context, ids = [0, 5, 7], []
    for _ in range(4):
        ids.append(int(engine.forward([*context, *ids], engine.new_state()).argmax()))
    other = [*ids[:-1], (ids[-1] + 1) % 300]
    found = dict(score(engine, [Pair(context, ids), Pair(context, other), Pair(context, ids[:1])]))
    assert [found[index].greedy for index in range(3)] == [True, False, True]


def test_an_empty_continuation_is_certain(speaker):
    assert dict(score(open_any(speaker), [Pair([0], [])])) == {0: (0.0, True)}


def test_each_context_is_read_once(speaker):
    engine = open_any(speaker)
    read = []
    forward = engine.forward
    engine.forward = lambda ids, state, **options: read.append(tuple(ids)) or forward(ids, state, **options)
    pairs = random_pairs(30)
    list(score(engine, pairs))
    assert sorted(read) == sorted({tuple(pair.context) for pair in pairs})

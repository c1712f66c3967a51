"""serve.scores: log-probabilities of the model itself."""

import numpy as np
import pytest

from unmul.serve.scores import score, score_all


def test_log_probabilities_are_a_softmax_in_float64():
    logits = np.random.default_rng(0).standard_normal(37).astype(np.float32) * 5
    expected = np.log(np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum())
    found = score(logits, 11, 5)
    assert found.token == 11
    assert found.logprob == pytest.approx(expected[11], rel=1e-12)
    assert [token for token, _ in found.top] == np.argsort(-expected)[:5].tolist()
    assert [value for _, value in found.top] == pytest.approx(sorted(expected)[:-6:-1], rel=1e-12)


def test_equal_tokens_rank_by_rising_id():
    assert [token for token, _ in score(np.zeros(4, np.float32), 3, 4).top] == [0, 1, 2, 3]


def test_none_and_more_than_all_may_be_asked_for():
    assert score(np.zeros(4, np.float32), 3, 0).top == []
    assert len(score(np.zeros(4, np.float32), 3, 20).top) == 4


def test_large_logits_do_not_overflow():
    assert score(np.array([1e30, -1e30], np.float32), 0, 1).logprob == 0


def test_rows_are_scored_one_by_one():
    logits = np.array([[0, 9], [9, 0]], np.float32)
    first, second = score_all(logits, [1, 1], 1)
    assert first.logprob > -0.01 > second.logprob

"""PyTorch models as engines."""

import numpy as np
import pytest
from tolerance import FLOAT32_SUMS, relative_l2

from unmul.evaluate import bits
from unmul.evaluate.latent import open_latent


@pytest.mark.parametrize("source", ["latent", "wide"])
def test_a_step_of_several_sequences_equals_them_one_by_one(source: str, request: pytest.FixtureRequest) -> None:
    engine = open_latent(request.getfixturevalue(source), "cpu")
    states, alone = ([engine.new_state() for _ in range(3)] for _ in range(2))
    for ids in ([1, 2, 3], [4, 4, 4]):
        together = engine.step(ids, states)
        single = np.stack([engine.forward([token], state) for token, state in zip(ids, alone, strict=True)])
        assert relative_l2(together, single) < FLOAT32_SUMS
    assert relative_l2(np.stack(states), np.stack(alone)) < FLOAT32_SUMS


@pytest.mark.parametrize("multiple", [1, 4, 256])
def test_tokens_are_scored_where_the_logits_are_and_what_fills_a_length_up_changes_nothing(latent, multiple):
    engine, plain = open_latent(latent, "cpu"), open_latent(latent, "cpu")
    engine._multiple = multiple
    state, expected_state = engine.new_state(), plain.new_state()
    for ids, targets in (([1, 2, 3, 4, 5], [2, 3, 4, 5, 6]), ([6], [7]), ([7, 8, 9, 10], [8, 9, 10, 0])):
        logits = plain.forward(ids, expected_state, every=True)
        found = engine.log2_probabilities(ids, targets, state)
        assert found.dtype == np.float64
        assert relative_l2(found, bits.log2_probabilities(logits, targets)) < 10 * FLOAT32_SUMS
        assert relative_l2(state, expected_state) < FLOAT32_SUMS

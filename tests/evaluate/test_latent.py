"""PyTorch models as engines."""

import numpy as np
import pytest
import torch
from tolerance import FLOAT32_SUMS, relative_l2

from unmul.evaluate import bits
from unmul.evaluate.latent import TorchEngine, open_latent
from unmul.model import load_model
from unmul.ops.ternarise import held


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


def test_weights_are_ternarised_once_and_nothing_else_changes(latent, monkeypatch):
    made, ternarise = [], held.ternarise
    monkeypatch.setattr(held, "ternarise", lambda weights: made.extend(weights) or ternarise(weights))
    model = load_model(latent)
    with torch.inference_mode():
        expected = model(torch.tensor([[1, 2, 3]]))
        more = model(torch.tensor([[4]]), expected.state)
    made.clear()
    engine = TorchEngine(model)
    state = engine.new_state()
    assert (engine.forward([1, 2, 3], state, every=True) == expected.logits[0].numpy()).all()
    assert len(made) == len(model.config.ternary_names)
    assert (engine.forward([4], state) == more.logits[0, -1].numpy()).all()
    assert (state == more.state[:, 0].numpy()).all()
    engine.step([5], [state])
    engine.log2_probabilities([6], [7], state)
    assert len(made) == len(model.config.ternary_names)

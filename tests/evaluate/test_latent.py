"""PyTorch models as engines."""

import numpy as np
import pytest
from tolerance import FLOAT32_SUMS, relative_l2

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

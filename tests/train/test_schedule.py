"""train.schedule: the formula, at the steps where it turns."""

import pytest

from unmul.train.recipe import TrainPart
from unmul.train.schedule import rate, weight_decay

TRAIN = TrainPart(steps=101, lr=1.0, warmup=0.1, floor=0.2, second_stage=0.5)  # warm-up 10 steps, halved from 51


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.1),
        (4, 0.5),
        (9, 1.0),
        (10, 1.0),  # p = 0
        (40, 0.2 + 0.8 * 0.75),  # p = 1/3
        (55, (0.2 + 0.8 * 0.5) / 2),  # p = 1/2, second stage
        (70, (0.2 + 0.8 * 0.25) / 2),  # p = 2/3
        (100, 0.2 / 2),
    ],
)
def test_rate_follows_warm_up_cosine_and_second_stage(step, expected):
    assert rate(step, TRAIN) == pytest.approx(expected, rel=1e-12)


def test_the_rate_is_halved_once_midway():
    assert 0.45 < rate(51, TRAIN) / rate(50, TRAIN) < 0.5
    whole = TrainPart(steps=101, lr=1.0, warmup=0.1, floor=0.2, second_stage=1.0)
    assert all(rate(k, whole) == rate(k, TRAIN) * (2 if k > 50 else 1) for k in range(101))


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 1.0])
def test_the_shortest_runs_have_positive_finite_rates(steps, warmup):
    train = TrainPart(steps=steps, warmup=warmup)
    assert all(0 < rate(k, train) <= train.lr for k in range(steps))


@pytest.mark.parametrize(("step", "expected"), [(4, 0.5), (10, 1.0), (80, 1.0), (81, 1.0), (91, 0.6), (100, 0.24)])
def test_wsd_is_constant_and_falls_to_the_floor_in_its_last_steps(step, expected):
    train = TrainPart(steps=101, lr=1.0, warmup=0.1, floor=0.2, schedule="wsd", cooldown=0.2)  # 20 steps, from 81
    assert rate(step, train) == pytest.approx(expected, rel=1e-12)


def test_wsd_without_a_cooldown_stays_at_its_rate():
    assert rate(100, TrainPart(steps=101, lr=1.0, schedule="wsd", cooldown=0.0)) == 1.0


def test_weights_decay_until_the_recipe_says():
    train = TrainPart(steps=10, weight_decay=0.3, decay_until=0.5)
    assert [weight_decay(k, train) for k in (0, 4, 5, 9)] == [0.3, 0.3, 0.0, 0.0]
    assert weight_decay(9, TrainPart(steps=10, weight_decay=0.3)) == 0.3

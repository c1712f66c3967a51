"""train.loop: golden losses, accumulation, and weights that survive a bad batch."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tolerance import FLOAT32_SUMS, GOLDEN_LOSSES, relative_l2

from unmul.config import ModelConfig
from unmul.data import Batches
from unmul.errors import TrainingError
from unmul.model import MatMulFreeLM, initialise
from unmul.train.loop import make_optimizers, steps
from unmul.train.parallel import replicate
from unmul.train.recipe import TrainPart
from unmul.train.world import World

GOLDEN = Path(__file__).parent.parent / "golden" / "train_losses.json"
ALONE = World(0, 1, torch.device("cpu"))
TRAIN = TrainPart(steps=8, batch=4, context=24, lr=0.01, warmup=0.25, dtype="fp32")


def fresh_model():
    config = ModelConfig(
        vocab_size=64, hidden_size=24, intermediate_size=40, num_hidden_layers=2, bos_token_id=0, eos_token_id=0
    )
    model = MatMulFreeLM(config)
    initialise(model, torch.Generator().manual_seed(3))
    return model


def batches(train):
    tokens = np.random.default_rng(5).zipf(1.5, 3000).clip(max=63).astype(np.uint16)
    return Batches([tokens], batch=train.batch, context=train.context, seed=2)


def trained(train, model=None):
    model = model or fresh_model()
    return model, list(steps(replicate(model, ALONE, train), make_optimizers(model, train), batches(train), train, 0))


def test_the_first_losses_are_the_golden_ones():
    found = [step.loss for step in trained(TRAIN)[1]]
    assert found == pytest.approx(json.loads(GOLDEN.read_text()), rel=GOLDEN_LOSSES)


def test_bf16_learns_like_fp32():
    exact, rounded = ([step.loss for step in trained(replace(TRAIN, dtype=dtype))[1]] for dtype in ("fp32", "bf16"))
    assert rounded == pytest.approx(exact, rel=0.01)
    assert rounded != exact


def test_accumulated_micro_batches_are_one_larger_batch():
    model, (large,) = trained(replace(TRAIN, steps=1))
    halves, (small,) = trained(replace(TRAIN, steps=1, batch=2, accumulate=2))
    assert small.loss == pytest.approx(large.loss, rel=FLOAT32_SUMS)
    assert small.norm == pytest.approx(large.norm, rel=1e2 * FLOAT32_SUMS)
    assert relative_l2(halves.lm_head.norm.weight.detach(), model.lm_head.norm.weight.detach()) < 1e2 * FLOAT32_SUMS


def test_the_rate_of_a_step_is_the_schedules_and_only_projections_decay():
    model = fresh_model()
    (optimizer,) = make_optimizers(model, TRAIN)
    decayed, others = optimizer.param_groups
    assert [len(group["params"]) for group in (decayed, others)] == [13, 22]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    first = next(steps(replicate(model, ALONE, TRAIN), [optimizer], batches(TRAIN), TRAIN, 0))
    assert first.rate == decayed["lr"] == others["lr"] == pytest.approx(0.005)


def test_muon_takes_the_layers_projections_and_adamw_the_rest():
    train = replace(TRAIN, optimizer="muon")
    model = fresh_model()
    muon, adamw = make_optimizers(model, train)
    assert [len(group["params"]) for group in (*muon.param_groups, *adamw.param_groups)] == [12, 1, 22]
    losses = [step.loss for step in trained(train)[1]]
    assert losses[-1] < losses[0]
    assert losses[0] == trained(TRAIN)[1][0].loss
    assert losses[-1] != trained(TRAIN)[1][-1].loss


def test_decay_ends_where_the_recipe_says():
    model, train = fresh_model(), replace(TRAIN, decay_until=0.5)
    optimizers = make_optimizers(model, train)
    found = [
        [group["weight_decay"] for optimizer in optimizers for group in optimizer.param_groups]
        for _ in steps(replicate(model, ALONE, train), optimizers, batches(train), train, 0)
    ]
    assert found == [[0.1, 0.0]] * 4 + [[0.0, 0.0]] * 4


def test_a_loss_that_is_not_finite_stops_before_the_weights_change():
    model = fresh_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        model.model.norm.weight[3] = torch.nan
    with pytest.raises(TrainingError, match=r"step 1 has loss nan .*batches 0 to 0.*lower train\.lr"):
        trained(TRAIN, model)
    for name, tensor in model.state_dict().items():
        if name != "model.norm.weight":
            assert torch.equal(tensor, before[name]), name

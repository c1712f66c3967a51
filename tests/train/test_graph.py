"""train.graph: a replayed step is the step, and the trainer records where it may."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from unmul.config import ModelConfig
from unmul.data import Batch, Batches
from unmul.train.families import family
from unmul.train.graph import Recorded
from unmul.train.loop import make_optimizers, steps
from unmul.train.parallel import replicate
from unmul.train.recipe import TYPES, TrainPart
from unmul.train.world import World

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
TRAIN = TrainPart(steps=6, batch=2, accumulate=2, context=48, lr=0.01, warmup=0.3)
SHAPE = ModelConfig(
    vocab_size=128, hidden_size=128, intermediate_size=192, num_hidden_layers=2, bos_token_id=0, eos_token_id=0
)


def losses(kind: str, train: TrainPart) -> list[float]:
    model = family(kind).build(SHAPE, seed=3)
    if train.checkpoint_activations:
        family(kind).checkpoint_activations(model)
    replica = replicate(model, World(0, 1, torch.device("cuda", 0)), train)
    tokens = np.random.default_rng(5).integers(0, 128, 3000).astype(np.uint16)
    end = 0 if train.document_mask else None
    batches = Batches([tokens], batch=train.batch, context=train.context, seed=2, end=end)
    return [step.loss for step in steps(replica, make_optimizers(model, train), batches, train, 0)]


@pytest.mark.parametrize("masked", [True, False], ids=["documents", "no mask"])
@pytest.mark.parametrize("kind", TYPES)
def test_a_replayed_run_has_the_losses_of_a_launched_one(kind: str, masked: bool) -> None:
    train = replace(TRAIN, document_mask=masked)
    assert losses(kind, train) == pytest.approx(losses(kind, replace(train, graph=False)), rel=1e-3)


def test_checkpointed_activations_are_recorded_too() -> None:
    train = replace(TRAIN, checkpoint_activations=True)
    assert losses("matmulfree", train) == pytest.approx(losses("matmulfree", replace(train, graph=False)), rel=1e-3)


def test_gradients_come_back_after_they_were_dropped() -> None:
    weight = torch.nn.Parameter(torch.ones(3, device="cuda"))

    def passes(batches):
        loss = (weight * batches[0].tokens).sum()
        loss.backward()
        return loss.detach()

    recorded = Recorded(passes, [weight])
    for value in (1.0, 2.0, 3.0, 4.0):
        assert recorded([Batch(torch.full((3,), value, device="cuda"), None)]).item() == 3 * value
        assert weight.grad is not None
        assert weight.grad.tolist() == [value] * 3
        weight.grad = None

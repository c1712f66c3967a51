"""The algorithm: batches in, better weights out. What is logged, saved or printed happens outside, between steps."""

# B windows, T context

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch

from unmul.data import Batch, Batches
from unmul.errors import TrainingError
from unmul.model import MatMulFreeLM
from unmul.train.recipe import TrainPart
from unmul.train.schedule import rate

__all__ = ["Step", "loss_of", "make_optimizer", "steps"]


class Step(NamedTuple):
    """A finished step: how many are done, mean loss in nats a token, norm of the gradient before clipping, rate."""

    done: int
    loss: float
    norm: float
    rate: float


def make_optimizer(model: MatMulFreeLM, train: TrainPart) -> torch.optim.Optimizer:
    """AdamW that decays the projections only: gains, bounds and embeddings are not what rounding works on."""
    named = dict(model.named_parameters())
    decayed = [named[name] for name in model.config.ternary_names]
    others = [parameter for name, parameter in named.items() if name not in set(model.config.ternary_names)]
    groups = [{"params": decayed, "weight_decay": train.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=train.lr, betas=(train.beta1, train.beta2), fused=True)


def steps(
    model: MatMulFreeLM, optimizer: torch.optim.Optimizer, batches: Batches, train: TrainPart, done: int
) -> Iterator[Step]:
    """Train from the state after `done` steps to the end; yields after every update.

    The weights are untouched when a loss or a gradient is not finite: TrainingError then says which batches did it.
    """
    for step in range(done, train.steps):
        micro = range(step * train.accumulate, (step + 1) * train.accumulate)
        loss = _accumulate_gradients(model, (batches[index] for index in micro), train)
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip))
        _require_finite(step, micro, loss, norm)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, train)
        optimizer.step()
        optimizer.zero_grad()
        yield Step(step + 1, loss, norm, rate(step, train))


def _accumulate_gradients(model: MatMulFreeLM, batches: Iterable[Batch], train: TrainPart) -> float:
    device = model.lm_head.weight.device
    total = 0.0
    for batch in batches:
        there = Batch(*(None if part is None else torch.as_tensor(part, device=device) for part in batch))
        loss = loss_of(model, there, train) / train.accumulate
        loss.backward()
        total += float(loss.detach())
    return total


def loss_of(model: MatMulFreeLM, batch: Batch, train: TrainPart) -> torch.Tensor:
    """Mean cross-entropy in nats of the B x T predictions of a batch of tensors."""
    tokens_BT, mask_BT = batch
    with torch.autocast(tokens_BT.device.type, torch.bfloat16, enabled=train.dtype == "bf16"):
        return model.loss(tokens_BT[:, :-1], tokens_BT[:, 1:], mask_BT)


def _require_finite(step: int, micro: range, loss: float, norm: float) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    raise TrainingError(
        f"step {step + 1} has loss {loss} and gradient norm {norm} (batches {micro.start} to {micro.stop - 1})",
        "the last checkpoint is sound: start again with a lower train.lr, or look at these batches",
    )

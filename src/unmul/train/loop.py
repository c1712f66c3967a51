"""The algorithm: batches in, better weights out. What is logged, saved or printed happens outside, between steps."""

# B windows, T context

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from unmul.data import Batch, Batches
from unmul.errors import TrainingError
from unmul.model import MatMulFreeLM
from unmul.ops.ternarise.held import hold_codes
from unmul.train.family import LanguageModel
from unmul.train.graph import Recorded
from unmul.train.muon import Muon
from unmul.train.parallel import Replica
from unmul.train.recipe import TrainPart
from unmul.train.schedule import rate, weight_decay
from unmul.train.unrounded import set_rounding

__all__ = ["Step", "loss_of", "make_optimizers", "steps"]

LAYERS, HEAD = "_proj.weight", "lm_head.weight"  # ends of the names of projections, in both kinds of model


class Step(NamedTuple):
    """A finished step: how many are done, mean loss in nats a token, gradient norm before clipping, rate, duration."""

    done: int
    loss: float
    norm: float
    rate: float
    seconds: float


class _Learner(Protocol):
    @property
    def loss(self) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]: ...


def make_optimizers(model: LanguageModel, train: TrainPart) -> list[torch.optim.Optimizer]:
    """AdamW that decays the projections only: gains, bounds and embeddings are not what rounding works on.

    With train.optimizer = "muon" that takes the projections of the layers (arXiv 2502.16982: the size of its updates is
    that of AdamW's, so one learning rate serves both).
    """
    named = dict(model.named_parameters())
    layers = [parameter for name, parameter in named.items() if name.endswith(LAYERS)]
    head = [parameter for name, parameter in named.items() if name.endswith(HEAD)]
    others = [parameter for name, parameter in named.items() if not name.endswith((LAYERS, HEAD))]
    if train.optimizer == "muon":
        return [Muon(layers, train.lr, train.weight_decay), _adamw(head, others, train)]
    return [_adamw([*layers, *head], others, train)]


def _adamw(decayed: list[nn.Parameter], others: list[nn.Parameter], train: TrainPart) -> torch.optim.AdamW:
    groups = [{"params": decayed, "weight_decay": train.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=train.lr, betas=(train.beta1, train.beta2), fused=True)


def steps(
    replica: Replica, optimizers: Sequence[torch.optim.Optimizer], batches: Batches, train: TrainPart, done: int
) -> Iterator[Step]:
    """Train from the state after `done` steps to the end; yields after every update.

    The weights are untouched when a loss or a gradient is not finite, on whichever process: TrainingError then says
    on all of them which batches did it.
    """
    device, passes = replica.world.device, _passes(replica, train)
    rounded_from = int(train.unrounded * train.steps)
    for step in range(done, train.steps):
        began = time.perf_counter()
        if rounded_from and step in (done, rounded_from):
            set_rounding(cast(MatMulFreeLM, replica.model), step >= rounded_from)  # the recipe allows no other family
            passes = _passes(replica, train)
        micro = range(step * train.accumulate, (step + 1) * train.accumulate)
        mean = replica.world.mean(passes([_on(device, batches[index]) for index in micro]))
        # The one place of a step where the CPU waits for the GPU.
        loss, norm = torch.stack([mean, replica.clip(train.clip)]).tolist()
        _require_finite(step, micro, loss, norm)
        for optimizer in optimizers:
            _follow_schedule(optimizer, step, train)
            optimizer.step()
            optimizer.zero_grad()
        yield Step(step + 1, loss, norm, rate(step, train), time.perf_counter() - began)


def _follow_schedule(optimizer: torch.optim.Optimizer, step: int, train: TrainPart) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate(step, train)
        if group["weight_decay"]:  # the others never decay, and what has stopped does not begin again
            group["weight_decay"] = weight_decay(step, train)


def _passes(replica: Replica, train: TrainPart) -> Callable[[Sequence[Batch]], Tensor]:
    """_accumulate_gradients of the replica, recorded where one GPU trains alone and train.graph allows it."""
    passes = partial(_accumulate_gradients, replica, train)
    alone = replica.kind == "single" and replica.world.device.type == "cuda"
    return Recorded(passes, replica.model.parameters()) if alone and train.graph else passes


def _accumulate_gradients(replica: Replica, train: TrainPart, batches: Sequence[Batch]) -> Tensor:
    """Gradients of the mean over micro-batches, averaged over processes once; returns this process's mean loss []."""
    total = torch.zeros((), device=replica.world.device)
    with hold_codes():
        for count, batch in enumerate(batches, 1):
            with nullcontext() if count == train.accumulate else replica.local():
                loss = loss_of(replica, batch, train) / train.accumulate
                loss.backward()
            total += loss.detach()
    return total


def _on(device: torch.device, batch: Batch) -> Batch:
    """The batch as tensors; the copy to a GPU runs while the CPU goes on."""

    def tensor(part: Any) -> Tensor:
        here = torch.from_numpy(part)
        return here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here

    return Batch(*(None if part is None else tensor(part) for part in batch))


def loss_of(model: _Learner, batch: Batch, train: TrainPart) -> Tensor:
    """Mean cross-entropy in nats of the B x T predictions of a batch of tensors; model is anything with a `loss`."""
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

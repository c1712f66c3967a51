"""What changes from step to step: the learning rate, and whether weights decay."""

from __future__ import annotations

import math

from unmul.train.recipe import TrainPart

__all__ = ["rate", "weight_decay"]


def rate(step: int, train: TrainPart) -> float:
    """Learning rate of step k = 0 .. N-1, with W = round(warmup N) steps of warm-up.

    k < W:   lr (k + 1) / W
    cosine:  lr (floor + (1 - floor) (1 + cos(pi p)) / 2) stage,  p = (k - W) / max(N - 1 - W, 1),
             stage = 1/2 once k >= second_stage N, else 1
    wsd:     lr, and in the last round(cooldown N) steps lr (floor + (1 - floor) (N - k) / round(cooldown N))

    Source: arXiv 2406.02528, section 4.1, for the cosine that is halved midway; arXiv 2404.06395 for wsd (warm-up,
    stable, decay). The rest is chosen here.
    """
    warmup = round(train.warmup * train.steps)
    if step < warmup:
        return train.lr * (step + 1) / warmup
    shape = _wsd if train.schedule == "wsd" else _cosine
    return train.lr * shape(step, warmup, train)


def weight_decay(step: int, train: TrainPart) -> float:
    """Weight decay of a step: that of the recipe until decay_until of all steps, then none (as arXiv 2402.17764)."""
    return train.weight_decay if step < train.decay_until * train.steps else 0.0


def _cosine(step: int, warmup: int, train: TrainPart) -> float:
    progress = (step - warmup) / max(train.steps - 1 - warmup, 1)
    cosine = train.floor + (1 - train.floor) * (1 + math.cos(math.pi * progress)) / 2
    stage = 0.5 if train.second_stage < 1 and step >= train.second_stage * train.steps else 1.0
    return cosine * stage


def _wsd(step: int, warmup: int, train: TrainPart) -> float:
    cooldown = round(train.cooldown * train.steps)
    left = min((train.steps - step) / cooldown, 1.0) if cooldown else 1.0
    return train.floor + (1 - train.floor) * left

"""The learning rate of a step: linear warm-up, cosine to a floor, and the paper's second stage."""

from __future__ import annotations

import math

from unmul.train.recipe import TrainPart

__all__ = ["rate"]


def rate(step: int, train: TrainPart) -> float:
    """Learning rate of step k = 0 .. N-1, with W = round(warmup N) steps of warm-up.

    k < W:   lr (k + 1) / W
    k >= W:  lr (floor + (1 - floor) (1 + cos(pi p)) / 2) stage,  p = (k - W) / max(N - 1 - W, 1),
             stage = 1/2 once k >= second_stage N, else 1

    Source: arXiv 2406.02528, section 4.1: cosine, and the rate is halved midway. The rest is chosen here.
    """
    warmup = round(train.warmup * train.steps)
    if step < warmup:
        return train.lr * (step + 1) / warmup
    progress = (step - warmup) / max(train.steps - 1 - warmup, 1)
    cosine = train.floor + (1 - train.floor) * (1 + math.cos(math.pi * progress)) / 2
    stage = 0.5 if train.second_stage < 1 and step >= train.second_stage * train.steps else 1.0
    return train.lr * cosine * stage

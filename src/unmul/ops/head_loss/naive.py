"""The head and its loss, as their formulas: the definition that faster versions are compared with."""

# K width, V vocabulary

from __future__ import annotations

import torch
import torch.nn.functional as F

from unmul.ops.bitlinear import Projection
from unmul.ops.norm_project.naive import norm_project

__all__ = ["IGNORED", "head_loss"]

IGNORED = -100  # a target that is not counted


def head_loss(
    x: torch.Tensor,
    delta: torch.Tensor | None,
    gain: torch.Tensor,
    projection: Projection,
    targets: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """Mean cross-entropy in nats of the head's prediction at every position; targets of -100 are not counted.

    Its backward products are never taken in 8 bits: beside the target's, the gradients of all other logits of a row
    would round to zero, and with them most of what the layers below learn from (docs/lab-notes.md, 2026-11-24).

    Shapes: x, delta [..., K], gain [K], targets [...] int64 below V -> [] in float32.
    """
    _, (logits,) = norm_project(x, delta, gain, [projection._replace(int8_backward=False)], eps)
    return F.cross_entropy(logits.float().flatten(0, -2), targets.flatten(), ignore_index=IGNORED)

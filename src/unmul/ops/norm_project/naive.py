"""The entrance of both mixers, as its formula: the definition that faster versions are compared with."""

# K width of the residual stream

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from unmul.ops.bitlinear import Projection, project

__all__ = ["norm_project"]


def norm_project(
    x: torch.Tensor, delta: torch.Tensor | None, gain: torch.Tensor, projections: Sequence[Projection], eps: float
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Add what the last mixer gave to the residual stream, normalise, and project (arXiv 2406.02528, algorithm 1).

    Shapes: x, delta [..., K], gain [K] -> x + delta [..., K] and one y [..., N] for each projection.
    """
    x = x if delta is None else x + delta
    normed = F.rms_norm(x.float(), gain.shape, gain.float(), eps).to(x.dtype)
    return x, [project(normed, projection) for projection in projections]

"""The exit of the token mixer, as its formula: the definition that faster versions are compared with."""

# D width

from __future__ import annotations

import torch
import torch.nn.functional as F

from unmul.ops.bitlinear import Projection, project

__all__ = ["gate_project"]


def gate_project(
    g: torch.Tensor, h: torch.Tensor, gain: torch.Tensor, projection: Projection, eps: float
) -> torch.Tensor:
    """y = o_proj(RMSNorm(g) * SiLU(h)): the normalised gate times the activated state, or the other way round.

    Shapes: g, h [..., D], gain [D] -> y [..., N] in g's dtype.
    """
    z = F.rms_norm(g.float(), gain.shape, gain.float(), eps) * F.silu(h.float())
    return project(z.to(g.dtype), projection)

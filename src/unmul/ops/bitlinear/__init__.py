"""RMSNorm, 8-bit quantisation and the ternary product: for latent weights (training) and for fixed codes."""

from __future__ import annotations

import torch

from unmul.ops.bitlinear.naive import bitlinear, ternary_linear
from unmul.ops.bitlinear.projection import EPS, Projection

__all__ = ["EPS", "Projection", "bitlinear", "project", "ternary_linear"]


def project(x: torch.Tensor, projection: Projection) -> torch.Tensor:
    """The projection of x [..., K] -> [..., N], whichever kind of weights it has."""
    if projection.scale is None:
        return bitlinear(x, projection.gain, projection.weight, EPS)
    return ternary_linear(x, projection.gain, projection.weight, projection.scale, EPS)

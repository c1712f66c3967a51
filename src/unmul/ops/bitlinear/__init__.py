"""RMSNorm, 8-bit quantisation and the ternary product: for latent weights (training) and for fixed codes."""

from __future__ import annotations

import torch

from unmul.ops.bitlinear import mixed, naive
from unmul.ops.bitlinear.naive import ternary_linear
from unmul.ops.bitlinear.projection import EPS, Projection

__all__ = ["EPS", "Projection", "bitlinear", "project", "ternary_linear"]


def bitlinear(
    x: torch.Tensor, gain: torch.Tensor, weight: torch.Tensor, eps: float, int8_backward: bool = False
) -> torch.Tensor:
    """naive.bitlinear in float32; under autocast its twin with bf16 products."""
    implementation = mixed if torch.is_autocast_enabled(x.device.type) else naive
    return implementation.bitlinear(x, gain, weight, eps, int8_backward)


def project(x: torch.Tensor, projection: Projection) -> torch.Tensor:
    """The projection of x [..., K] -> [..., N], whichever kind of weights it has."""
    if projection.scale is None:
        return bitlinear(x, projection.gain, projection.weight, EPS, projection.int8_backward)
    return ternary_linear(x, projection.gain, projection.weight, projection.scale, EPS)

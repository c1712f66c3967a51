"""BitLinear in plain PyTorch: the definition that faster versions are compared with.

Source: arXiv 2406.02528, algorithm 1.
"""

# K in features, N out features

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from unmul import ternary

__all__ = ["bitlinear", "ternary_linear"]


def bitlinear(x: torch.Tensor, gain: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """y = (q/s) (m C)^T: the product of quantised operands, with straight-through gradients for both.

    In this order of rounding the published implementation is reproduced to 1e-6; ternary_linear rounds once
    instead, and can differ where an 8-bit code sits on a rounding boundary.

    Shapes: x [..., K], gain [K], weight [N, K] -> y [..., N] in x's dtype.
    """
    normed = F.rms_norm(x.float(), gain.shape, gain.float(), eps)
    q, s = ternary.quantise(normed.detach())
    latent = weight.float()
    m = ternary.scale(latent.detach())
    ternary_weight = m * ternary.codes(latent.detach(), m)
    product = F.linear(_StraightThrough.apply(normed, q / s), _StraightThrough.apply(latent, ternary_weight))
    return product.to(x.dtype)


def ternary_linear(
    x: torch.Tensor, gain: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, eps: float
) -> torch.Tensor:
    """y = (q C^T) (m/s): the exact integer product, then one multiply, as every inference engine computes it.

    Float32 holds the integer sums exactly up to 132,104 columns.

    Shapes: x [..., K], gain [K], codes [N, K] in {-1, 0, 1}, scale [] -> y [..., N] in x's dtype.
    """
    q, s = ternary.quantise(F.rms_norm(x.float(), gain.shape, gain.float(), eps))
    return (F.linear(q, codes.float()) * (scale / s)).to(x.dtype)


class _StraightThrough(torch.autograd.Function):
    """The value of one tensor with the gradient of another: how rounding is trained through."""

    @staticmethod
    def forward(ctx: Any, latent: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return value

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad, None

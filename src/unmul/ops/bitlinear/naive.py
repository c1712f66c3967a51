"""BitLinear in plain PyTorch: the definition that faster versions are compared with.

Source: arXiv 2406.02528, algorithm 1.
"""

# K in features, N out features

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from unmul import ternary
from unmul.ops.product_backward.naive import int8_product_backward
from unmul.ops.ternarise.held import latent_operand

__all__ = ["bitlinear", "int8_gradients", "ternary_linear"]


def bitlinear(
    x: torch.Tensor, gain: torch.Tensor, weight: torch.Tensor, eps: float, int8_backward: bool = False
) -> torch.Tensor:
    """y = (q/s) (m C)^T: the product of quantised operands, with straight-through gradients for both.

    In this order of rounding the published implementation is reproduced to 1e-6; ternary_linear rounds once
    instead, and can differ where an 8-bit code sits on a rounding boundary.

    Args:
        int8_backward: take both products of the backward pass of 8-bit operands, as ops.product_backward does.

    Shapes: x [..., K], gain [K], weight [N, K] -> y [..., N] in x's dtype.
    """
    normed = F.rms_norm(x.float(), gain.shape, gain.float(), eps)
    q, s = ternary.quantise(normed.detach())
    (codes,), (m,) = latent_operand([weight])
    latent = weight.float()
    if int8_backward:
        product = _Int8Backward.apply(normed, latent, q, s, codes, m)
    else:
        product = F.linear(_StraightThrough.apply(normed, q / s), _StraightThrough.apply(latent, m * codes))
    return product.to(x.dtype)


def int8_gradients(
    grad: torch.Tensor, q: torch.Tensor, s: torch.Tensor, codes: torch.Tensor, m: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the normed input [..., K] and of the weights [N, K] from that of the product [..., N], float32."""
    rows = [grad.float().flatten(0, -2)]
    operand = q.flatten(0, -2)[None], s.flatten()[None]
    (grad_n,), (grad_weight,) = int8_product_backward(rows, *operand, codes[None], m[None], torch.float32)
    assert grad_weight is not None
    return grad_n.view(q.shape), grad_weight


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


class _Int8Backward(torch.autograd.Function):
    """The product of both operands, whose backward pass rounds the gradient to 8 bits as well."""

    @staticmethod
    def forward(
        ctx: Any,
        normed: torch.Tensor,
        latent: torch.Tensor,
        q: torch.Tensor,
        s: torch.Tensor,
        codes: torch.Tensor,
        m: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(q, s, codes, m)
        return F.linear(q / s, m * codes)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return *int8_gradients(grad, *ctx.saved_tensors), None, None, None, None

"""Same contract as naive.bitlinear, with products in bf16; compared in tests/ops/test_bitlinear_mixed.py.

The forward operands lose nothing: 8-bit q and ternary C are exact in bf16, their product is summed in float32, and the
scales multiply it once. The backward pass is written out, so that few tensors are kept and few passes are made.
"""

# M rows (batch and time), K in features, N out features

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from unmul import ternary
from unmul.ops.bitlinear.naive import int8_gradients
from unmul.ops.ternarise.held import latent_operand

__all__ = ["bitlinear"]


def bitlinear(
    x: torch.Tensor, gain: torch.Tensor, weight: torch.Tensor, eps: float, int8_backward: bool = False
) -> torch.Tensor:
    """y = (q C^T) (m/s) with straight-through gradients; see naive.bitlinear.

    Shapes: x [..., K], gain [K], weight [N, K] -> y [..., N] in x's dtype.
    """
    product: torch.Tensor = _BitLinear.apply(x.flatten(0, -2), gain, weight, eps, int8_backward)
    return product.unflatten(0, x.shape[:-1])


class _BitLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_MK: torch.Tensor, gain_K: torch.Tensor, weight_NK: torch.Tensor, eps: float, int8_backward: bool
    ) -> torch.Tensor:
        wide_MK = x_MK.float()
        rms_M1 = (wide_MK.square().mean(-1, keepdim=True) + eps).rsqrt()
        q_MK, s_M1 = ternary.quantise((wide_MK * rms_M1).mul_(gain_K))
        (c_NK,), (m,) = latent_operand([weight_NK])
        q_MK, c_NK = q_MK.bfloat16(), c_NK.bfloat16()
        ctx.save_for_backward(x_MK, gain_K, rms_M1, q_MK, s_M1, c_NK, m)
        ctx.gradients = int8_gradients if int8_backward else _bf16_gradients
        return (F.linear(q_MK, c_NK) * (m / s_M1)).to(x_MK.dtype)

    @staticmethod
    def backward(ctx: Any, grad_MN: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_MK, gain_K, rms_M1, *operands = ctx.saved_tensors
        grad_n_MK, grad_weight_NK = ctx.gradients(grad_MN, *operands)
        unit_MK = x_MK * rms_M1
        grad_gain_K = (grad_n_MK * unit_MK).sum(0)
        grad_unit_MK = grad_n_MK.mul_(gain_K)
        along_M1 = (grad_unit_MK * unit_MK).mean(-1, keepdim=True)
        grad_x_MK = grad_unit_MK.addcmul_(unit_MK, along_M1, value=-1).mul_(rms_M1)
        return grad_x_MK.to(x_MK.dtype), grad_gain_K, grad_weight_NK, None, None


def _bf16_gradients(
    grad_MN: torch.Tensor, q_MK: torch.Tensor, s_M1: torch.Tensor, c_NK: torch.Tensor, m: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    scaled_MN = (grad_MN / s_M1).bfloat16()  # dW = dY^T (q/s), and dX = dY (m C) takes s back
    return (scaled_MN @ c_NK) * (m * s_M1), (scaled_MN.t() @ q_MK).float()

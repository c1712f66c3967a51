"""Same contract as naive.scan; compared in tests/ops/test_scan.py.

One loop without an autograd graph per step: the backward pass is the same recurrence run from the end.
"""

# B batch, T time, D width

from __future__ import annotations

from typing import Any

import torch

__all__ = ["scan"]


def scan(f_BTD: torch.Tensor, i_BTD: torch.Tensor, h_BD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """h_t = f_t h_{t-1} + i_t in float32; see naive.scan."""
    h_BTD: torch.Tensor = _Scan.apply(f_BTD.float(), i_BTD.float(), h_BD.float())
    return h_BTD, h_BTD[:, -1]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, f_BTD: torch.Tensor, i_BTD: torch.Tensor, h0_BD: torch.Tensor) -> torch.Tensor:
        h_BTD = torch.empty_like(i_BTD)
        h_BD = h0_BD
        for f_BD, i_BD, out_BD in zip(f_BTD.unbind(1), i_BTD.unbind(1), h_BTD.unbind(1), strict=True):
            h_BD = torch.addcmul(i_BD, f_BD, h_BD, out=out_BD)
        ctx.save_for_backward(f_BTD, h_BTD, h0_BD)
        return h_BTD

    @staticmethod
    def backward(ctx: Any, grad_BTD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        f_BTD, h_BTD, h0_BD = ctx.saved_tensors
        grad_i_BTD = torch.empty_like(f_BTD)
        carry_BD = torch.zeros_like(h0_BD)
        later_BD = carry_BD  # the forget gate of the step after, none after the last
        steps = zip(f_BTD.unbind(1), grad_BTD.unbind(1), grad_i_BTD.unbind(1), strict=True)
        for f_BD, grad_BD, out_BD in reversed(list(steps)):
            carry_BD = torch.addcmul(grad_BD, later_BD, carry_BD, out=out_BD)
            later_BD = f_BD
        grad_f_BTD = torch.empty_like(f_BTD)
        torch.mul(grad_i_BTD[:, 1:], h_BTD[:, :-1], out=grad_f_BTD[:, 1:])
        torch.mul(carry_BD, h0_BD, out=grad_f_BTD[:, 0])
        return grad_f_BTD, grad_i_BTD, later_BD * carry_BD

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
        for t in range(i_BTD.shape[1]):
            h_BD = torch.addcmul(i_BTD[:, t], f_BTD[:, t], h_BD, out=h_BTD[:, t])
        ctx.save_for_backward(f_BTD, h_BTD, h0_BD)
        return h_BTD

    @staticmethod
    def backward(ctx: Any, grad_BTD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        f_BTD, h_BTD, h0_BD = ctx.saved_tensors
        grad_i_BTD = torch.empty_like(f_BTD)
        carry_BD = torch.zeros_like(h0_BD)
        for t in reversed(range(f_BTD.shape[1])):
            torch.add(grad_BTD[:, t], carry_BD, out=grad_i_BTD[:, t])
            carry_BD = f_BTD[:, t] * grad_i_BTD[:, t]
        previous_BTD = torch.cat([h0_BD[:, None], h_BTD[:, :-1]], 1)
        return grad_i_BTD * previous_BTD, grad_i_BTD, carry_BD

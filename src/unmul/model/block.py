"""One layer: mix tokens, then mix channels, each on a normalised copy of the residual stream."""

from __future__ import annotations

import torch
from torch import nn

from unmul.model.glu import GLU
from unmul.model.mlgru import MLGRU

__all__ = ["Block"]


class Block(nn.Module):
    """Shapes: x [B, T, D], state [B, D] -> the same."""

    def __init__(self, width: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.attn_norm = nn.RMSNorm(width, eps)
        self.attn = MLGRU(width, eps)
        self.mlp_norm = nn.RMSNorm(width, eps)
        self.mlp = GLU(width, hidden)

    def forward(
        self, x: torch.Tensor, state: torch.Tensor, bound: torch.Tensor | None, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        mixed, state = self.attn(self.attn_norm(x), state, bound, mask)
        r = x + mixed
        return r + self.mlp(self.mlp_norm(r)), state

"""The channel mixer: a gated linear unit (arXiv 2406.02528, section 3.3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from unmul.model.bitlinear import BitLinear

__all__ = ["GLU"]


class GLU(nn.Module):
    """Shapes: x [..., D] -> [..., D], through width I; gate_proj holds gate first, then up."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = BitLinear(width, 2 * hidden)
        self.down_proj = BitLinear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.gate_proj(x).chunk(2, -1)
        return self.down_proj(F.silu(gate) * up)

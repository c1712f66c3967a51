"""The channel mixer: a gated linear unit (arXiv 2406.02528, section 3.3.2)."""

from __future__ import annotations

import torch
from torch import nn

from unmul.model.bitlinear import BitLinear
from unmul.ops.swiglu_project import swiglu_project

__all__ = ["GLU"]


class GLU(nn.Module):
    """Shapes: u [..., 2I], what gate_proj gave (gate first, then up) -> [..., D]."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = BitLinear(width, 2 * hidden)
        self.down_proj = BitLinear(hidden, width)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return swiglu_project(u, self.down_proj.projection)

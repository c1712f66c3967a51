"""The token mixer: a gated linear recurrence, elementwise (arXiv 2406.02528, section 3.3.1).

Paper names: f forget gate, i candidate times input gate, g output gate, h state. As in the published weights, the
gate g is normalised and the state passes SiLU; the paper writes sigma(g) * h.
"""

# B batch, T time, D width

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from unmul.model.bitlinear import BitLinear
from unmul.ops.scan import scan

__all__ = ["MLGRU"]


class MLGRU(nn.Module):
    """Shapes: x [B, T, D], state [B, D], bound [D], mask [B, T] or None -> [B, T, D] and the new state."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.i_proj = BitLinear(width, width)
        self.f_proj = BitLinear(width, width)
        self.g_proj = BitLinear(width, width)
        self.o_proj = BitLinear(width, width)
        self.g_norm = nn.RMSNorm(width, eps)

    def forward(
        self, x_BTD: torch.Tensor, state_BD: torch.Tensor, bound_D: torch.Tensor | None, mask_BT: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        f_BTD = torch.sigmoid(self.f_proj(x_BTD).float())
        if bound_D is not None:
            f_BTD = bound_D + (1 - bound_D) * f_BTD
        i_BTD = F.silu(self.i_proj(x_BTD)) * (1 - f_BTD)
        if mask_BT is not None:  # a masked token adds nothing and forgets nothing
            real_BT1 = mask_BT[..., None].bool()
            i_BTD, f_BTD = i_BTD * real_BT1, f_BTD.where(real_BT1, 1.0)
        h_BTD, state_BD = scan(f_BTD, i_BTD, state_BD)
        z_BTD = self.g_norm(self.g_proj(x_BTD)) * F.silu(h_BTD)
        return self.o_proj(z_BTD.to(x_BTD.dtype)), state_BD

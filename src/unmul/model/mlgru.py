"""The token mixer: a gated linear recurrence, elementwise (arXiv 2406.02528, section 3.3.1).

Paper names: f forget gate, i candidate times input gate, g output gate, h state. As in the published weights, the
gate g is normalised and the state passes SiLU; the paper writes sigma(g) * h. With use_state_norm they change places.
"""

# B batch, T time, D width

from __future__ import annotations

from torch import Tensor, nn

from unmul.config import ModelConfig
from unmul.model.bitlinear import BitLinear
from unmul.ops.gate_project import gate_project
from unmul.ops.gated_scan import gated_scan

__all__ = ["MLGRU"]

Part = Tensor | None  # what a call may leave out


class MLGRU(nn.Module):
    """Shapes: i, f, g [B, T, D], what their projections gave, state [B, D] -> [B, T, D] and the new state."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, self._eps, self.state_norm = config.hidden_size, config.rms_norm_eps, config.use_state_norm
        self.i_proj = BitLinear(width, width)
        self.f_proj = BitLinear(width, width)
        self.g_proj = BitLinear(width, width)
        self.o_proj = BitLinear(width, width)
        self.g_norm = nn.RMSNorm(width, self._eps)
        if config.use_shared_norm:
            self.f_proj.norm = self.g_proj.norm = self.i_proj.norm

    def forward(
        self, i_BTD: Tensor, f_BTD: Tensor, g_BTD: Tensor, state_BD: Tensor, bound_D: Part, mask_BT: Part
    ) -> tuple[Tensor, Tensor]:
        h_BTD, state_BD = gated_scan(f_BTD, i_BTD, state_BD, bound_D, mask_BT)
        normed_BTD, gate_BTD = (h_BTD, g_BTD) if self.state_norm else (g_BTD, h_BTD)
        return gate_project(normed_BTD, gate_BTD, self.g_norm.weight, self.o_proj.projection, self._eps), state_BD

"""The token mixer: a gated linear recurrence, elementwise (arXiv 2406.02528, section 3.3.1).

Paper names: f forget gate, i candidate times input gate, g output gate, h state. As in the published weights, the
gate g is normalised and the state passes SiLU; the paper writes sigma(g) * h. With use_state_norm they change places.
"""

# B batch, T time, D width, E width of the token mixer: D times expand_ratio

from __future__ import annotations

from torch import Tensor, nn

from unmul.config import ModelConfig
from unmul.model.bitlinear import BitLinear
from unmul.ops.gate_project import gate_project
from unmul.ops.gated_scan import gated_scan

__all__ = ["MLGRU"]

Part = Tensor | None  # what a call may leave out


class MLGRU(nn.Module):
    """Shapes: i, f, g [B, T, E], what their projections gave, state [B, E] -> [B, T, D] and the new state."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.mixer_size
        self._eps, self.state_norm = config.rms_norm_eps, config.use_state_norm
        self.i_proj = BitLinear(width, inner)
        self.f_proj = BitLinear(width, inner)
        self.g_proj = BitLinear(width, inner)
        self.o_proj = BitLinear(inner, width)
        self.g_norm = nn.RMSNorm(inner, self._eps)
        if config.use_shared_norm:
            self.f_proj.norm = self.g_proj.norm = self.i_proj.norm

    def forward(
        self, i_BTE: Tensor, f_BTE: Tensor, g_BTE: Tensor, state_BE: Tensor, bound_E: Part, mask_BT: Part
    ) -> tuple[Tensor, Tensor]:
        h_BTE, state_BE = gated_scan(f_BTE, i_BTE, state_BE, bound_E, mask_BT)
        normed_BTE, gate_BTE = (h_BTE, g_BTE) if self.state_norm else (g_BTE, h_BTE)
        return gate_project(normed_BTE, gate_BTE, self.g_norm.weight, self.o_proj.projection, self._eps), state_BE

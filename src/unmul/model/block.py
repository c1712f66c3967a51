"""One layer: mix tokens, then mix channels, each on a normalised copy of the residual stream."""

# B batch, T time, D width, E width of the token mixer

from __future__ import annotations

from torch import Tensor, nn

from unmul.config import ModelConfig
from unmul.model.glu import GLU
from unmul.model.mlgru import MLGRU
from unmul.ops.norm_project import norm_project

__all__ = ["Block"]


class Block(nn.Module):
    """One block of the residual stream, which travels as a sum not yet taken: x + delta.

    Shapes: x, delta [B, T, D], state [B, E], bound [E], mask [B, T] -> x, delta and the new state.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, self._eps = config.hidden_size, config.rms_norm_eps
        self.attn_norm = nn.RMSNorm(width, self._eps)
        self.attn = MLGRU(config)
        self.mlp_norm = nn.RMSNorm(width, self._eps)
        self.mlp = GLU(width, config.ffn_size)

    def forward(
        self, x: Tensor, delta: Tensor | None, state: Tensor, bound: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        gates = [gate.projection for gate in (self.attn.i_proj, self.attn.f_proj, self.attn.g_proj)]
        x, (i, f, g) = norm_project(x, delta, self.attn_norm.weight, gates, self._eps)
        delta, state = self.attn(i, f, g, state, bound, mask)
        x, (u,) = norm_project(x, delta, self.mlp_norm.weight, [self.mlp.gate_proj.projection], self._eps)
        return x, self.mlp(u), state

"""Ours with neither weights nor activations rounded: a kind of model to compare with, and how training may begin.

The parameters are the same, so a model goes from one to the other between two steps. Plain operations, no kernels of
its own: torch.compile fuses them.
"""

# B batch, T time, D width, E width of the token mixer, V vocabulary

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from unmul.config import ModelConfig
from unmul.model import BitLinear, MatMulFreeLM
from unmul.model.block import Block
from unmul.model.model import Output
from unmul.ops.bitlinear import EPS
from unmul.ops.gated_scan import gated_scan

__all__ = ["FullLM", "set_rounding"]


class FullLM(MatMulFreeLM):
    """MatMulFreeLM with the same parameters and norms, in which neither weights nor activations are rounded."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        set_rounding(self, False)

    def forward(self, ids_BT: Tensor, state_LBE: Tensor | None = None, mask_BT: Tensor | None = None) -> Output:
        state_LBE = self.model.new_state(ids_BT.shape[0]) if state_LBE is None else state_LBE
        x_BTD, delta_BTD, state_LBE = self.model(ids_BT, state_LBE, mask_BT)
        return Output(_project(self.model.norm(x_BTD + delta_BTD), self.lm_head), state_LBE, ())

    def loss(self, ids_BT: Tensor, targets_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        logits_BTV = self(ids_BT, mask_BT=mask_BT).logits
        return F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())


class _FullBlock(Block):
    def forward(
        self, x: Tensor, delta: Tensor | None, state: Tensor, bound: Tensor | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = x if delta is None else x + delta
        mixer, normed = self.attn, self.attn_norm(x)
        i, f, g = (_project(normed, gate) for gate in (mixer.i_proj, mixer.f_proj, mixer.g_proj))
        h, state = gated_scan(f, i, state, bound, mask)
        normed, gate = (h, g) if mixer.state_norm else (g, h)
        x = x + _project(mixer.g_norm(normed.float()) * F.silu(gate.float()), mixer.o_proj)
        gate, up = _project(self.mlp_norm(x), self.mlp.gate_proj).chunk(2, -1)
        return x, _project(F.silu(gate) * up, self.mlp.down_proj), state


def _project(x: Tensor, projection: BitLinear) -> Tensor:
    """A BitLinear without its roundings."""
    return F.linear(F.rms_norm(x.float(), x.shape[-1:], projection.norm.weight, EPS), projection.weight)


def set_rounding(model: MatMulFreeLM, on: bool) -> None:
    """Make a model MatMulFreeLM or FullLM in place; parameters, and whoever holds them, stay as they are."""
    model.__class__ = MatMulFreeLM if on else FullLM
    for block in model.model.layers:
        block.__class__ = Block if on else _FullBlock

"""The whole model: embeddings, L blocks, a final norm, a ternary head. Names of parameters are the published ones."""

# B batch, T time, D width, V vocabulary, L layers

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from unmul.config import ModelConfig
from unmul.model.bitlinear import BitLinear
from unmul.model.block import Block

__all__ = ["Backbone", "MatMulFreeLM", "Output", "initialise"]


class Output(NamedTuple):
    """Logits [B, T, V], the state after the last token [L, B, D] float32, hidden states [L + 1] x [B, T, D]."""

    logits: torch.Tensor
    state: torch.Tensor
    hidden: tuple[torch.Tensor, ...]


class Backbone(nn.Module):
    """Everything below the head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.lower_bounds = nn.Parameter(torch.zeros(config.num_hidden_layers, config.hidden_size))
        self.layers = nn.ModuleList(
            Block(config.hidden_size, config.ffn_size, config.rms_norm_eps) for _ in range(config.num_hidden_layers)
        )
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.gradient_checkpointing = False  # in training: keep only each layer's input, compute the rest again

    def forward(
        self, ids_BT: torch.Tensor, state_LBD: torch.Tensor, mask_BT: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
        """Normalised output [B, T, D], new state, and the residual stream before each block and at the end."""
        hidden = [self.embeddings(ids_BT)]
        states = []
        for layer, state_BD, bound_D in zip(self.layers, state_LBD, self.forget_bounds(), strict=True):
            x_BTD, state_BD = self._run(layer, hidden[-1], state_BD, bound_D, mask_BT)
            hidden.append(x_BTD)
            states.append(state_BD)
        normed = self.norm(hidden[-1])
        return normed, torch.stack(states), (*hidden[:-1], normed)

    def _run(self, layer: nn.Module, *inputs: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        if self.gradient_checkpointing and self.training:
            return checkpoint(layer, *inputs, use_reentrant=False)
        return layer(*inputs)

    def forget_bounds(self) -> list[torch.Tensor | None]:
        """Lower bound of the forget gate for each layer: cumsum(softmax) minus its first row, so 0 at the bottom."""
        if not self.config.use_lower_bound:
            return [None] * self.config.num_hidden_layers
        shares_LD = self.lower_bounds.float().softmax(0)
        return list((shares_LD.cumsum(0) - shares_LD[0]).unbind(0))

    def new_state(self, batch: int) -> torch.Tensor:
        """The state before the first token: zeros [L, B, D] in float32."""
        shape = (self.config.num_hidden_layers, batch, self.config.hidden_size)
        return torch.zeros(shape, device=self.embeddings.weight.device)


class MatMulFreeLM(nn.Module):
    """A MatMul-free causal language model (arXiv 2406.02528)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.lm_head = BitLinear(config.hidden_size, config.vocab_size)

    def forward(
        self, ids_BT: torch.Tensor, state_LBD: torch.Tensor | None = None, mask_BT: torch.Tensor | None = None
    ) -> Output:
        """Shapes: ids [B, T] int64; state from model.new_state or an earlier output; mask [B, T], 1 for real tokens."""
        if state_LBD is None:
            state_LBD = self.model.new_state(ids_BT.shape[0])
        normed_BTD, state_LBD, hidden = self.model(ids_BT, state_LBD, mask_BT)
        return Output(self.lm_head(normed_BTD), state_LBD, hidden)


@torch.no_grad()
def initialise(model: MatMulFreeLM, generator: torch.Generator | None = None) -> None:
    """Fresh weights as the published code draws them: small gates, normal GLU, down_proj scaled by depth."""
    std = model.config.initializer_range
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            nn.init.ones_(parameter)
        elif name.endswith("lower_bounds"):
            nn.init.zeros_(parameter)
        elif ".attn." in name:
            nn.init.xavier_uniform_(parameter, gain=2**-2.5, generator=generator)
        else:
            depth = math.sqrt(2 * model.config.num_hidden_layers) if ".down_proj." in name else 1
            nn.init.normal_(parameter, 0, std / depth, generator=generator)

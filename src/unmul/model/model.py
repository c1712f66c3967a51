"""The whole model: embeddings, L blocks, a final norm, a ternary head. Names of parameters are the published ones."""

# B batch, T time, D width, E width of the token mixer, V vocabulary, L layers

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unmul.config import ModelConfig
from unmul.model.bitlinear import BitLinear
from unmul.model.block import Block
from unmul.ops.head_loss import head_loss
from unmul.ops.norm_project import norm_project
from unmul.ops.ternarise.held import same_codes

__all__ = ["Backbone", "MatMulFreeLM", "Output", "initialise"]


class Output(NamedTuple):
    """Logits [B, T, V], the state after the last token [L, B, E] float32, hidden states [L + 1] x [B, T, D]."""

    logits: Tensor
    state: Tensor
    hidden: tuple[Tensor, ...]


class Backbone(nn.Module):
    """Everything below the head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.lower_bounds = nn.Parameter(torch.zeros(config.num_hidden_layers, config.mixer_size))
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.gradient_checkpointing = False  # in training: keep only each layer's input, compute the rest again

    def forward(
        self, ids_BT: Tensor, state_LBE: Tensor, mask_BT: Tensor | None = None, hidden: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The residual stream as x and delta, their sum not yet taken, and the new state.

        A list given as hidden receives the residual stream before each block and at the end.
        """
        x_BTD = self.embeddings(ids_BT)
        delta_BTD: Tensor | None = None
        states = []
        for layer, state_BE, bound_E in zip(self.layers, state_LBE, self.forget_bounds(), strict=True):
            if hidden is not None:
                hidden.append(x_BTD if delta_BTD is None else x_BTD + delta_BTD)
            x_BTD, delta_BTD, state_BE = self._run(layer, x_BTD, delta_BTD, state_BE, bound_E, mask_BT)
            states.append(state_BE)
        assert delta_BTD is not None
        return x_BTD, delta_BTD, torch.stack(states)

    def _run(self, layer: nn.Module, *inputs: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        if self.gradient_checkpointing and self.training:
            # Nothing draws, and a CUDA graph cannot save the generator's state.
            return checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False, context_fn=same_codes)
        return layer(*inputs)

    def forget_bounds(self) -> list[Tensor | None]:
        """Lower bound of the forget gate for each layer: cumsum(softmax) minus its first row, so 0 at the bottom."""
        if not self.config.use_lower_bound:
            return [None] * self.config.num_hidden_layers
        shares_LE = self.lower_bounds.float().softmax(0)
        return list((shares_LE.cumsum(0) - shares_LE[0]).unbind(0))

    def new_state(self, batch: int) -> Tensor:
        """The state before the first token: zeros [L, B, E] in float32."""
        shape = (self.config.num_hidden_layers, batch, self.config.mixer_size)
        return torch.zeros(shape, device=self.embeddings.weight.device)


class MatMulFreeLM(nn.Module):
    """A MatMul-free causal language model (arXiv 2406.02528)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config)
        self.lm_head = BitLinear(config.hidden_size, config.vocab_size)
        self._eps = config.rms_norm_eps

    def forward(self, ids_BT: Tensor, state_LBE: Tensor | None = None, mask_BT: Tensor | None = None) -> Output:
        """Shapes: ids [B, T] int64; state from new_state or an earlier output; mask [B, T] as for ops.gated_scan."""
        hidden: list[Tensor] = []
        state_LBE = self.model.new_state(ids_BT.shape[0]) if state_LBE is None else state_LBE
        x_BTD, delta_BTD, state_LBE = self.model(ids_BT, state_LBE, mask_BT, hidden)
        norm = self.model.norm
        x_BTD, (logits_BTV,) = norm_project(x_BTD, delta_BTD, norm.weight, [self.lm_head.projection], self._eps)
        return Output(logits_BTV, state_LBE, (*hidden, norm(x_BTD)))

    def loss(self, ids_BT: Tensor, targets_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Mean cross-entropy in nats of predicting targets [B, T] (-100: not counted); the logits are never stored."""
        x_BTD, delta_BTD, _ = self.model(ids_BT, self.model.new_state(ids_BT.shape[0]), mask_BT)
        return head_loss(x_BTD, delta_BTD, self.model.norm.weight, self.lm_head.projection, targets_BT, self._eps)


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

"""The two models between ours and a Transformer: ours with full-precision weights, and a Llama with ternary ones.

They answer what costs quality, the recurrence or the rounding, and nothing else: their checkpoints are for `--resume`
and carry a model_type of their own, so that no reader takes them for the models that they are not.
"""

# B batch, T time, D width, E width of the token mixer, V vocabulary

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmul.checkpoint import save_latent
from unmul.checkpoint.folder import CONFIG
from unmul.checkpoint.tensorfile import Array
from unmul.config import ModelConfig
from unmul.evaluate.latent import TorchEngine
from unmul.files import write_text
from unmul.model import BitLinear, MatMulFreeLM, initialise
from unmul.model.block import Block
from unmul.model.model import Output
from unmul.ops.bitlinear import EPS
from unmul.ops.gated_scan import gated_scan
from unmul.train.baseline import LlamaLM, compile_blocks, llama_engine, recompute_activations, save_llama
from unmul.train.family import MATMULFREE, Family

__all__ = ["MATMULFREE_FULL", "TRANSFORMER_TERNARY", "FullLM", "TernaryLlamaLM"]


class FullLM(MatMulFreeLM):
    """MatMulFreeLM with the same parameters and norms, in which neither weights nor activations are rounded."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.model.layers = nn.ModuleList(_FullBlock(config) for _ in range(config.num_hidden_layers))

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


class TernaryLlamaLM(LlamaLM):
    """LlamaLM with a BitLinear in place of every linear layer, the head included, and embeddings of deviation 1.

    The norm in front of o_proj makes much of the mean that untrained attention is. Beside embeddings of a deviation of
    0.02 that is louder than the token itself, and at 8 M parameters training never got over it (docs/lab-notes.md).
    """

    def __init__(self, shape: ModelConfig) -> None:
        super().__init__(shape)
        self.llama.model.embed_tokens.reset_parameters()
        for name, module in list(self.llama.named_modules()):
            if isinstance(module, nn.Linear):
                self.llama.set_submodule(name, _bitlinear(module))


def _bitlinear(linear: nn.Linear) -> BitLinear:
    with linear.weight.device:
        module = BitLinear(linear.in_features, linear.out_features)
    module.weight = nn.Parameter(linear.weight.detach())
    return module


def _build_full(shape: ModelConfig, seed: int) -> FullLM:
    model = FullLM(shape)
    initialise(model, torch.Generator().manual_seed(seed))
    return model


def _build_ternary(shape: ModelConfig, seed: int) -> TernaryLlamaLM:
    with torch.random.fork_rng(devices=()):  # transformers draws from the global generator
        torch.manual_seed(seed)
        return TernaryLlamaLM(shape)


def _save_full(
    folder: Path, shape: ModelConfig, read: Callable[[str], Array], **options: Callable[[Path], None]
) -> None:
    save_latent(folder, shape, read, extra={"model_type": "hgrn_full"}, companions=options["companions"])


def _save_ternary(
    folder: Path, shape: ModelConfig, read: Callable[[str], Array], *, companions: Callable[[Path], None]
) -> None:
    def renamed(temporary: Path) -> None:
        config = json.loads((temporary / CONFIG).read_text("utf-8"))
        write_text(temporary / CONFIG, json.dumps({**config, "model_type": "llama_bit"}, indent=2) + "\n")
        companions(temporary)

    save_llama(TernaryLlamaLM, folder, shape, read, companions=renamed)


MATMULFREE_FULL = Family(
    build=_build_full,
    engine=TorchEngine,
    save=_save_full,
    compile=MATMULFREE.compile,
    checkpoint_activations=MATMULFREE.checkpoint_activations,
)
TRANSFORMER_TERNARY = Family(
    build=_build_ternary,
    engine=llama_engine,
    save=_save_ternary,
    compile=compile_blocks,
    checkpoint_activations=recompute_activations,
)

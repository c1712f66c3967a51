"""The two models between ours and a Transformer: ours with full-precision weights, and a Llama with ternary ones.

They answer what costs quality, the recurrence or the rounding, and nothing else: their checkpoints are for `--resume`
and carry a model_type of their own, so that no reader takes them for the models that they are not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from unmul.checkpoint import save_latent
from unmul.checkpoint.folder import CONFIG
from unmul.checkpoint.tensorfile import Array
from unmul.config import ModelConfig
from unmul.evaluate.latent import TorchEngine
from unmul.files import write_text
from unmul.model import BitLinear, initialise
from unmul.train.baseline import LlamaLM, compile_blocks, llama_engine, recompute_activations, save_llama
from unmul.train.family import MATMULFREE, Family
from unmul.train.unrounded import FullLM

__all__ = ["MATMULFREE_FULL", "TRANSFORMER_TERNARY", "TernaryLlamaLM"]


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

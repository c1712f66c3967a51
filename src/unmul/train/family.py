"""What a run asks about a kind of model that it trains, and the MatMul-free kind. The loop knows no kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from unmul.checkpoint import save_latent
from unmul.config import ModelConfig
from unmul.evaluate.bits import Predictor
from unmul.evaluate.latent import TorchEngine
from unmul.model import BitLinear, MatMulFreeLM, initialise

if TYPE_CHECKING:
    from unmul.train.baseline import LlamaLM

__all__ = ["MATMULFREE", "Family", "LanguageModel", "draw_embeddings", "use_int8_backward"]

LanguageModel: TypeAlias = "MatMulFreeLM | LlamaLM"


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of model.

    Args:
        build: a model of a shape with fresh weights of a seed.
        engine: the model as something whose predictions are measured.
        save: writes a folder whole or not at all from a shape and a function that gives each weight of the state_dict;
            `companions` adds files before the folder takes its name.
        compile: torch.compile of its layers in place: they share one graph, where a whole model takes minutes.
        checkpoint_activations: make it keep only the input of each layer in training.
    """

    build: Callable[[ModelConfig, int], Any]
    engine: Callable[[Any], Predictor[Any]]
    save: Callable[..., None]
    compile: Callable[[Any], None]
    checkpoint_activations: Callable[[Any], None]


def use_int8_backward(model: torch.nn.Module, on: bool = True) -> None:
    """Take the backward products of every projection of a model of 8-bit operands, or not; the head's stay as they are.

    ops.head_loss says why not the head's.
    """
    for name, module in model.named_modules():
        if isinstance(module, BitLinear) and name != "lm_head":
            module.int8_backward = on


def draw_embeddings(model: torch.nn.Module, deviation: float, seed: int) -> None:
    """Fresh embeddings of another standard deviation than the kind of model begins with."""
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            torch.nn.init.normal_(module.weight, 0, deviation, torch.Generator().manual_seed(seed))


def _build(shape: ModelConfig, seed: int) -> MatMulFreeLM:
    model = MatMulFreeLM(shape)
    initialise(model, torch.Generator().manual_seed(seed))
    return model


def _compile(model: MatMulFreeLM) -> None:
    for layer in model.model.layers:
        layer.compile(dynamic=False)


def _checkpoint_activations(model: MatMulFreeLM) -> None:
    model.model.gradient_checkpointing = True


MATMULFREE = Family(
    build=_build,
    engine=TorchEngine,
    save=save_latent,
    compile=_compile,
    checkpoint_activations=_checkpoint_activations,
)

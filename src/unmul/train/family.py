"""The kinds of model that a recipe can train, and all that a run asks about one. The loop knows none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from unmul.checkpoint import save_latent
from unmul.config import ModelConfig
from unmul.evaluate.bits import Predictor
from unmul.evaluate.latent import TorchEngine
from unmul.model import MatMulFreeLM, initialise, load_model

if TYPE_CHECKING:
    from unmul.train.baseline import LlamaLM

__all__ = ["Family", "LanguageModel", "family"]

LanguageModel: TypeAlias = "MatMulFreeLM | LlamaLM"


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of model.

    Args:
        build: a model of a shape with fresh weights of a seed.
        engine: the model as something whose predictions are measured.
        save: writes a folder whole or not at all from a shape and a function that gives each weight of the state_dict;
            `companions` adds files before the folder takes its name.
        weights: the state_dict that a folder holds.
    """

    build: Callable[[ModelConfig, int], Any]
    engine: Callable[[Any], Predictor[Any]]
    save: Callable[..., None]
    weights: Callable[[Path], Mapping[str, torch.Tensor]]


def family(kind: str) -> Family:
    """The family that a recipe's model.type names: "matmulfree" or "transformer"."""
    if kind == "transformer":
        from unmul.train.baseline import TRANSFORMER  # loads transformers

        return TRANSFORMER
    return MATMULFREE


def _build(shape: ModelConfig, seed: int) -> MatMulFreeLM:
    model = MatMulFreeLM(shape)
    initialise(model, torch.Generator().manual_seed(seed))
    return model


MATMULFREE = Family(
    build=_build,
    engine=TorchEngine,
    save=save_latent,
    weights=lambda folder: load_model(folder).state_dict(),
)

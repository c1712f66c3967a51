"""From a checkpoint folder to a PyTorch model and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from unmul import ternary
from unmul.checkpoint import PackedCheckpoint, is_packed, read_latent, save_latent
from unmul.config import ModelConfig
from unmul.model.bitlinear import BitLinear, TernaryLinear
from unmul.model.model import MatMulFreeLM

__all__ = ["build_model", "load_model", "save_model"]

Array = npt.NDArray[Any]


def load_model(folder: Path) -> MatMulFreeLM:
    """Load a latent or a packed folder in float32; fixed codes (packed or unpacked) become TernaryLinear modules."""
    if is_packed(folder):
        packed = PackedCheckpoint.open(folder)
        return build_model(packed.config, packed.dense, packed.scale)
    config, tensors, final = read_latent(folder)

    def dense(name: str) -> Array:
        return tensors[name].astype(np.float32)

    return build_model(config, dense, (lambda name: ternary.final_scale(dense(name))) if final else None)


def save_model(model: MatMulFreeLM, folder: Path, **options: Any) -> None:
    """Write a trained model as a latent folder; options as for checkpoint.save_latent."""
    tensors = model.state_dict()
    save_latent(folder, model.config, lambda name: tensors[name].detach().float().cpu().numpy(), **options)


def build_model(
    config: ModelConfig, dense: Callable[[str], Array], scale: Callable[[str], np.float32] | None = None
) -> MatMulFreeLM:
    """A model from its tensors in float32; with scales, the projections hold m*C and are fixed."""
    with torch.device("meta"):
        model = MatMulFreeLM(config)
    for name in config.tensor_shapes:
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        setattr(module, leaf, torch.nn.Parameter(torch.from_numpy(dense(name))))
    if scale is not None:
        for name in config.ternary_names:
            owner = name.removesuffix(".weight")
            model.set_submodule(owner, _fixed(model.get_submodule(owner), scale(name)))
    return model


def _fixed(module: torch.nn.Module, scale: np.float32) -> TernaryLinear:
    assert isinstance(module, BitLinear)
    m = torch.tensor(scale)
    return TernaryLinear(module.norm.weight.detach(), ternary.codes(module.weight.detach(), m).to(torch.int8), m)

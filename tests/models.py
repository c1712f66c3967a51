"""Small random checkpoints for tests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unmul.checkpoint import save_latent
from unmul.config import ModelConfig

__all__ = ["TINY", "WIDE", "latent_folder", "latent_tensors"]

# No width is a multiple of 5, 16 or 64: every row of a packed file ends in padding.
TINY = ModelConfig(vocab_size=131, hidden_size=42, intermediate_size=77, num_hidden_layers=3)
WIDE = replace(TINY, expand_ratio=2)  # token mixer and state of 84


def latent_tensors(config: ModelConfig = TINY, seed: int = 0) -> dict[str, np.ndarray]:
    """Random float32 tensors of plausible size under their published names."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in config.tensor_shapes.items():
        values = rng.standard_normal(shape, np.float32)
        tensors[name] = 1 + 0.2 * values if name.endswith("norm.weight") else 0.1 * values
    if config.use_shared_norm:
        for name in tensors:
            if name.endswith(("f_proj.norm.weight", "g_proj.norm.weight")):
                tensors[name] = tensors[name.replace("f_proj", "i_proj").replace("g_proj", "i_proj")]
    return tensors


def latent_folder(
    folder: Path,
    config: ModelConfig = TINY,
    seed: int = 0,
    tensors: dict[str, np.ndarray] | None = None,
    **options: Any,
) -> Path:
    """A latent checkpoint of random tensors, or of given ones; options as for checkpoint.save_latent."""
    save_latent(folder, config, (tensors or latent_tensors(config, seed)).__getitem__, **options)
    return folder

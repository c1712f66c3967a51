"""Training that starts from a checkpoint instead of random weights: `train.init`.

A packed folder knows the codes C and the scale m of a projection, no latent weights. It starts from W = m C / p with p
the share of codes that are not zero: then mean|W| = m and clamp(rint(W / m)) = C: the first step trains the very
function that was packed. m C would have the codes, too, but the scale m p.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unmul import ternary
from unmul.checkpoint import TOKENIZER, PackedCheckpoint, is_packed, read_config, read_latent
from unmul.checkpoint.folder import CARD, read_json
from unmul.checkpoint.tensorfile import Array
from unmul.config import ModelConfig
from unmul.errors import ConfigError
from unmul.model import MatMulFreeLM

__all__ = ["earlier_training", "start_from", "starting_model", "starting_tokenizer"]

# Of a shape, what the recipe decides anew: the tokenizer's ids, and how long the windows are.
ANEW = {"vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings"}


def starting_model(folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """The recipe's [model] for a run that starts from a folder: its shape, which given fields may repeat."""
    shape = asdict(read_config(folder)[0])
    for name, value in given.items():
        if value != shape[name]:
            raise ConfigError(f"model.{name} {value!r} is not that of train.init, {shape[name]!r}", "leave it out")
    return {name: value for name, value in shape.items() if name not in ANEW}


def starting_tokenizer(folder: Path) -> Path:
    """The tokenizer that the folder's tokens mean something in."""
    path = folder / TOKENIZER
    if not path.is_file():
        raise ConfigError(f"train.init {folder} has no {TOKENIZER}", "give the model's own with data.tokenizer")
    return path


def earlier_training(folder: Path) -> dict[str, int]:
    """Steps, tokens and FLOPs of all training behind a folder's weights, as far as its training.json tells."""
    card = read_json(folder / CARD) if (folder / CARD).is_file() else {}
    before = card.get("before", {})
    return {name: card.get(name, 0) + before.get(name, 0) for name in ("steps", "tokens", "flops")}


def start_from(model: MatMulFreeLM, folder: Path) -> None:
    """Give a model the weights of a latent or packed folder of its shape, in place."""
    config, dense = _opened(folder)
    if config.vocab_size != model.config.vocab_size:
        raise ConfigError(
            f"the tokenizer has {model.config.vocab_size} tokens, train.init {folder} has {config.vocab_size}",
            "leave out data.tokenizer: the folder's own is taken",
        )
    with torch.no_grad():
        for name in config.tensor_shapes:
            model.get_parameter(name).copy_(torch.from_numpy(dense(name)))


def _opened(folder: Path) -> tuple[ModelConfig, Callable[[str], Array]]:
    """The shape, and each tensor in float32 as latent weights."""
    if is_packed(folder):
        packed = PackedCheckpoint.open(folder)
        names = set(packed.config.ternary_names)
        return packed.config, lambda name: _latent(packed.dense(name)) if name in names else packed.dense(name)
    config, tensors, final = read_latent(folder)
    fixed = set(config.ternary_names) if final else set()

    def dense(name: str) -> Array:
        values = tensors[name].astype(np.float32)
        return _latent(values) if name in fixed else values

    return config, dense


def _latent(product: Array) -> Array:
    """Latent weights m C / p whose codes are C and whose scale is m. Shape: product m C [N, K]."""
    share = np.count_nonzero(product) / product.size
    return product / np.float32(max(share, ternary.SMALLEST))

"""Checkpoints of a run: a latent model folder that everything else can read, and beside it what resuming needs.

Nothing is random after initialisation, so the number of steps done, the optimizer's moments and the weights are the
whole state: batches and learning rates follow from the step.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from unmul.data import Shards
from unmul.data.tokenizer import save_tokenizer
from unmul.errors import CheckpointError, ConfigError
from unmul.files import write_text
from unmul.model import MatMulFreeLM, load_model, save_model

__all__ = ["latest", "restore", "save"]

OPTIMIZER = "optimizer.pt"
CARD = "training.json"  # how the model came to be, for people and for `unmul info`

# What may change between a run and its continuation without making it another run.
FREE = {"train.validate_every", "train.checkpoint_every", "train.keep", "data.shards"}


def save(
    out: Path, model: MatMulFreeLM, optimizer: torch.optim.Optimizer, shards: Shards, card: Mapping[str, Any]
) -> Path:
    """Write a checkpoint whole or not at all, named after card["steps"]; then remove all but the last ones."""

    def companions(folder: Path) -> None:
        save_tokenizer(shards.tokenizer, folder, shards.end)
        write_text(folder / CARD, json.dumps(card, indent=2) + "\n")
        moments = io.BytesIO()  # torch.save itself turns a full disk into a RuntimeError about positions
        torch.save(optimizer.state_dict(), moments)
        (folder / OPTIMIZER).write_bytes(moments.getbuffer())

    folder = out / f"step-{card['steps']:07}"
    save_model(model, folder, companions=companions)
    for old in _checkpoints(out)[: -card["recipe"]["train"]["keep"]]:
        shutil.rmtree(old)
    return folder


def latest(out: Path) -> Path | None:
    """The checkpoint of a run with the most steps."""
    return max(_checkpoints(out), default=None)


def restore(
    folder: Path, optimizer: torch.optim.Optimizer, model: MatMulFreeLM, card: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Put weights and moments back and return the checkpoint's card; a run that differs from card is refused."""
    try:
        stored: Mapping[str, Any] = json.loads((folder / CARD).read_text("utf-8"))
        moments = torch.load(folder / OPTIMIZER, weights_only=True)
    except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{folder} cannot be resumed from ({error})", "delete it, and resume again") from None
    _require_same(folder, stored, card)
    model.load_state_dict(load_model(folder).state_dict())
    optimizer.load_state_dict(moments)
    return stored


def _checkpoints(out: Path) -> list[Path]:
    return sorted(folder for folder in out.glob("step-*") if (folder / CARD).is_file())


def _require_same(folder: Path, stored: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    if stored["shards"] != card["shards"]:
        raise ConfigError(
            f"{folder} was trained on other text or another vocabulary", "put it back, or use a new --out"
        )
    before, now = _flat(stored["recipe"]), _flat(card["recipe"])
    for name in sorted(set(before) | set(now)):
        if name.startswith(("model.", "train.")) and name not in FREE and before.get(name) != now.get(name):
            raise ConfigError(
                f"{name} is {now.get(name)!r}, but {folder} was trained with {before.get(name)!r}",
                "resume with the same recipe, or use a new --out",
            )


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    sections = ((name, part) for name, part in recipe.items() if isinstance(part, Mapping))
    return {f"{section}.{name}": value for section, part in sections for name, value in part.items()}

"""unmul train: a model from a recipe and text files."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from unmul.cli.output import emit, note
from unmul.errors import MissingExtraError

if TYPE_CHECKING:
    from unmul.train import Result

__all__ = ["train"]


def train(
    recipe: Path, /, *, set: list[str] | None = None, out: Path | None = None, resume: bool = False, json: bool = False
) -> None:
    """Train a model from a recipe and text files. Ctrl-C saves and stops; --resume goes on from there.

    On several GPUs: torchrun --no-python --nproc-per-node N unmul train RECIPE.

    Args:
        recipe: a TOML file with [model], [data] and [train].
        set: override a value of the recipe, as in train.lr=0.01; may be repeated.
        out: the run's folder; runs/NAME-OF-RECIPE when left out.
        resume: continue from the newest checkpoint in the run's folder, if there is one.
        json: write one JSON document when done.
    """
    try:
        import torch  # noqa: F401 - asked first, so that its absence is told from a broken install
    except ModuleNotFoundError:
        raise MissingExtraError("torch", "train") from None
    from unmul.train import load_recipe, run

    loaded = load_recipe(recipe, set or ())
    result = run(loaded, out=out, resume=resume, lines=json)
    if result.leads:
        ending = _ending(result, packs=loaded.kind == "matmulfree")
        _tell(result, json, ending, _resume_command(recipe, set or [], out))
    if result.signal:
        raise SystemExit(128 + result.signal)


def _tell(result: Result, json: bool, ending: str, resume_command: str) -> None:
    if json:
        emit(_document(result))
    if result.signal or result.out_of_time:
        reason = result.signal.name if result.signal else "train.max_seconds"
        note(f"stopped by {reason} after step {result.steps}, saved. Continue with:")
        note(f"  {resume_command}")
    elif not json:
        print(ending)


def _document(result: Result) -> dict[str, object]:
    return {
        "steps": result.steps,
        "tokens": result.tokens,
        "final_loss": result.final_loss,
        "bits_per_byte": result.bits_per_byte,
        "tokens_per_s": result.tokens_per_s,
        "joules": result.joules,
        "joules_source": result.joules_source,
        "joules_reason": result.joules_reason,
        "checkpoint": str(result.checkpoint),
    }


def _ending(result: Result, *, packs: bool) -> str:
    measured = f", validation {result.bits_per_byte:.4f} bits per byte" if result.bits_per_byte is not None else ""
    folder = shlex.quote(str(result.checkpoint))
    packed = shlex.quote(str(result.checkpoint.parent / "packed"))
    lines = [
        f"{result.steps} steps, {result.tokens:,} tokens{measured}",
        f"next:  unmul eval {folder} --text FILE",
        f"       unmul pack {folder} {packed} && unmul run {packed}",
    ]
    return "\n".join(lines if packs else lines[:2])


def _resume_command(recipe: Path, overrides: list[str], out: Path | None) -> str:
    processes = os.environ.get("LOCAL_WORLD_SIZE")  # under torchrun
    words = ["torchrun", "--no-python", "--nproc-per-node", processes] if processes else []
    words += ["unmul", "train", str(recipe)]
    for override in overrides:
        words += ["--set", override]
    words += ["--out", str(out)] if out else []
    return shlex.join([*words, "--resume"])

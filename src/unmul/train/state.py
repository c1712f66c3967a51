"""Checkpoints of a run: a latent model folder that everything else can read, and inside it what resuming needs.

Nothing is random after initialisation, so the number of steps done, the optimizer's moments and the weights are the
whole state: batches and learning rates follow from the step. The state is kept by name and in shards, written by all
processes at once (torch.distributed.checkpoint), so that any number of them can go on from it.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from unmul.checkpoint.folder import CARD
from unmul.checkpoint.tensorfile import Array
from unmul.config import ModelConfig
from unmul.data import Shards
from unmul.data.tokenizer import save_tokenizer
from unmul.errors import CheckpointError, ConfigError
from unmul.files import write_text
from unmul.train.ema import Average
from unmul.train.family import Family, LanguageModel
from unmul.train.world import World

__all__ = ["Saver", "latest", "restore"]

RESUME = "resume"
MODEL = "model"
AVERAGE = "ema"  # a model folder like the checkpoint, with the averaged weights

# What may change between a run and its continuation without making it another run.
FREE = {
    "train.validate_every", "train.checkpoint_every", "train.keep", "train.async_checkpoint", "train.device",
    "train.parallel", "train.compile", "train.graph", "train.checkpoint_activations", "train.trackers",
    "train.max_seconds", "data.shards",
}  # fmt: skip


class Saver:
    """Writes the checkpoints of a run, one at a time, from copies in the CPU's memory.

    Args:
        out: the run's folder, seen by all processes.
        kind: of the model, which knows its folders.
        texts: their tokenizer goes with every folder.
        keep: how many checkpoints stay.
        background: return once the copy is made; the next save, and the end of the block, wait for the writing.
    """

    def __init__(self, out: Path, world: World, kind: Family, texts: Shards, *, keep: int, background: bool) -> None:
        self._out, self._world, self._kind, self._texts = out, world, kind, texts
        self._keep, self._background = keep, background
        # Its own group: messages of a save in the background must not mix with those of training.
        self._group = dist.new_group(backend="gloo") if world.size > 1 else None
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None

    def __enter__(self) -> Saver:
        if self._world.leads:
            for torn in self._out.glob(".step-*"):  # of a run that was killed while it wrote
                shutil.rmtree(torn)
        return self

    def __exit__(self, *raised: object) -> None:
        self._thread.shutdown()

    def save(
        self,
        model: LanguageModel,
        optimizers: Sequence[torch.optim.Optimizer],
        average: Average | None,
        card: Mapping[str, Any],
    ) -> Path:
        """Write a checkpoint whole or not at all, named after card["steps"]; then remove all but the last ones.

        Raises:
            CheckpointError: this or, in the background, an earlier one cannot be written.
        """
        self.wait()
        folder = self._out / f"step-{card['steps']:07}"
        copy = _copy(_state(model, optimizers, average))
        self._writing = self._thread.submit(self._write, folder, copy, model.config, card)
        if not self._background:
            self.wait()
        return folder

    def wait(self) -> None:
        """Return when nothing is being written, and raise on all ranks what went wrong on one."""
        error = self._writing.exception() if self._writing else None
        self._writing = None
        self._world.raise_together(error)

    def _write(self, folder: Path, state: dict[str, Any], config: ModelConfig, card: Mapping[str, Any]) -> None:
        shards = folder.with_name(f".{folder.name}.{RESUME}")
        try:
            with _refusals(f"{folder} cannot be written", "free space, or choose another place"):
                save(state, checkpoint_id=shards, process_group=self._group, no_dist=self._group is None)
            if self._world.leads:
                self._export(folder, shards, state, config, card)
        finally:
            if self._world.leads:
                shutil.rmtree(shards, ignore_errors=True)

    def _export(
        self, folder: Path, shards: Path, state: Mapping[str, Any], config: ModelConfig, card: Mapping[str, Any]
    ) -> None:
        def describe(temporary: Path) -> None:
            save_tokenizer(self._texts.tokenizer, temporary, self._texts.end)
            write_text(temporary / CARD, json.dumps(card, indent=2) + "\n")

        def companions(temporary: Path) -> None:
            describe(temporary)
            if AVERAGE in state:
                read = _reader(shards, AVERAGE, state[AVERAGE])
                self._kind.save(temporary / AVERAGE, config, read, companions=describe)
            os.rename(shards, temporary / RESUME)

        self._kind.save(folder, config, _reader(shards, MODEL, state[MODEL]), companions=companions)
        for old in _checkpoints(self._out)[: -self._keep]:
            gone = old.with_name(f".{old.name}.old")  # it goes whole, too: a killed run leaves no half of one
            os.rename(old, gone)
            shutil.rmtree(gone)


def latest(out: Path) -> Path | None:
    """The checkpoint of a run with the most steps."""
    return max(_checkpoints(out), default=None)


def restore(
    folder: Path,
    model: LanguageModel,
    optimizers: Sequence[torch.optim.Optimizer],
    average: Average | None,
    card: Mapping[str, Any],
) -> Mapping[str, Any]:
    """Put weights and moments back and return the checkpoint's card; a run that differs from card is refused."""
    with _refusals(f"{folder} cannot be resumed from", "delete it, and resume again"):
        stored: Mapping[str, Any] = json.loads((folder / CARD).read_text("utf-8"))
    _require_same(folder, stored, card)
    state = _state(model, optimizers, average)
    with _refusals(f"{folder} cannot be resumed from", "delete it, and resume again"):
        load(state, checkpoint_id=folder / RESUME, no_dist=not dist.is_initialized())
    set_state_dict(model, optimizers, model_state_dict=state[MODEL], optim_state_dict=state["optimizer"])
    if average:
        average.model.load_state_dict(state[AVERAGE])
        average.resume()
    return stored


def _state(
    model: LanguageModel, optimizers: Sequence[torch.optim.Optimizer], average: Average | None
) -> dict[str, Any]:
    """Weights and moments by name; tensors are those of the run, whole or sharded."""
    weights, moments = get_state_dict(model, optimizers)
    averaged = {AVERAGE: average.model.state_dict()} if average else {}
    return {MODEL: weights, "optimizer": moments, **averaged}


def _copy(value: Any) -> Any:
    """The same with every tensor copied to the CPU; a sharded one keeps its place among the shards."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _reader(shards: Path, part: str, like: Mapping[str, torch.Tensor]) -> Callable[[str], Array]:
    """Reads one weight of a part at a time, so that a model larger than memory can be exported."""

    def read(name: str) -> Array:
        whole = {part: {name: torch.empty(like[name].shape)}}
        with _refusals(f"{shards} cannot be read again", "look for a damaged disk"):
            load(whole, checkpoint_id=shards, no_dist=True)
        return whole[part][name].numpy()

    return read


@contextmanager
def _refusals(problem: str, remedy: str) -> Iterator[None]:
    """Whatever torch.distributed.checkpoint raises, on any rank, as one sentence on all."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process: it is meant
        try:
            yield
        except CheckpointException as error:
            (cause, _), *_ = error.failures.values()
            raise CheckpointError(f"{problem} ({_first_line(cause)})", remedy) from None
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{problem} ({_first_line(error)})", remedy) from None


def _first_line(error: BaseException) -> str:
    """What went wrong; behind what PyTorch's writer says of itself, the file system's own word."""
    behind: BaseException | None = error
    while behind:
        if isinstance(behind, OSError) and behind.strerror:
            return behind.strerror
        behind = behind.__cause__ or behind.__context__
    return (str(error).splitlines() or [type(error).__name__])[0]


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

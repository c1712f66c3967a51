"""Services that show a run while it goes on. log.jsonl is complete without them; a recipe names those it wants."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from unmul.errors import ConfigError, MissingExtraError

__all__ = ["Tracker", "open_trackers"]


class Tracker(Protocol):
    """Where figures of a run go besides the log."""

    def record(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures of a step."""
        ...

    def close(self) -> None:
        """Send what is left; nothing is recorded after it."""
        ...


def open_trackers(names: Sequence[str], out: Path, recipe: Mapping[str, Any], *, resumed: bool) -> list[Tracker]:
    """The named trackers of a run: its folder, its recipe, and whether it goes on from a checkpoint.

    Raises:
        MissingExtraError: the library of one is not installed.
        ConfigError: one does not start, for lack of a login say.
    """
    opened: list[Tracker] = []
    for name, library in {name: _library(name) for name in names}.items():
        try:
            tensorboard = name == "tensorboard"
            opened.append(_TensorBoard(out) if tensorboard else _Project(library, out, recipe, resumed))
        except Exception as error:  # each library has its own kinds
            for tracker in opened:
                tracker.close()
            raise ConfigError(f"train.trackers {name} does not start ({error})", "set it up, or leave it out") from None
    return opened


class _TensorBoard:
    """Event files in the run's folder `tensorboard`."""

    def __init__(self, out: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(out / "tensorboard"))

    def record(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Project:
    """A run of the project "unmul" in wandb, or in trackio, which has the same interface."""

    def __init__(self, library: ModuleType, out: Path, recipe: Mapping[str, Any], resumed: bool) -> None:
        self._library = library
        resume = "allow" if resumed else "never"
        with redirect_stdout(sys.stderr):  # they greet the user there; stdout is for the result
            self._run = library.init(project="unmul", name=out.name, config=dict(recipe), resume=resume)

    def record(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        with redirect_stdout(sys.stderr):
            self._library.finish()  # the run's own method would leave trackio to finish it again at exit


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingExtraError(name, name) from None

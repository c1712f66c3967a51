"""The curves of a run, from its folder: log.jsonl, and the tokenizer that its losses count in."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unmul.errors import DataError

__all__ = ["AXES", "SMOOTHING", "Run", "name_apart", "read_run", "smooth"]

AXES = {
    "tokens": "tokens",
    "flops": "training FLOPs",
    "seconds": "seconds",
    "joules": "joules",
    "bytes": "bytes of weights",
}
SMOOTHING = 0.02  # of a run's steps: the window of the mean
BITS = "validation_bits_per_byte"
SOMETIMES = ("flops", "joules")  # older logs lack FLOPs, machines without a meter joules

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Run:
    """Columns of a run's log; every one of a group has the same length.

    Args:
        steps: step, tokens, seconds, loss (nats a token, smoothed), and flops and joules where every line has them;
            bytes, those of the weights where the model is used, once there is a checkpoint that says them.
        validation: the same with validation_bits_per_byte instead of loss; without rows when nothing was measured.
        tokenizer: hash of the tokenizer, None when the run has no checkpoint yet.
    """

    name: str
    folder: Path
    steps: dict[str, Values]
    validation: dict[str, Values]
    tokenizer: str | None


def read_run(folder: Path) -> Run:
    """Read a folder that `unmul train` writes.

    Raises:
        DataError: it is none, or its log has no step yet or a damaged line.
    """
    path = folder / "log.jsonl"
    if not path.is_file():
        raise DataError(f"{folder} is not a run's folder: it has no log.jsonl", "give the --out folder of unmul train")
    lines = _parse(path)
    losses = [line for line in lines if "loss" in line]
    if not losses:
        raise DataError(f"{path} has no step yet", "wait for the first step, or train")
    names = ["step", "tokens", "seconds", *(name for name in SOMETIMES if all(name in line for line in lines))]
    steps = _columns(losses, [*names, "loss"])
    validation = _columns([line for line in lines if BITS in line], [*names, BITS])
    for columns in (steps, validation):
        columns |= _weight_bytes(folder, len(columns["step"]))
    return Run(folder.resolve().name, folder, steps | {"loss": smooth(steps["loss"])}, validation, _tokenizer(folder))


def name_apart(runs: Sequence[Run]) -> list[Run]:
    """The runs, named by their paths where several have the same name."""
    names = [run.name for run in runs]
    return [replace(run, name=str(run.folder)) if names.count(run.name) > 1 else run for run in runs]


def smooth(values: Values) -> Values:
    """Mean of each value and those before it in a window of SMOOTHING of them all; of fewer at the start."""
    window = max(round(SMOOTHING * len(values)), 1)
    sums = np.concatenate([[0.0], values.cumsum()])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _parse(path: Path) -> list[dict[str, float]]:
    *whole, _ = path.read_text("utf-8", errors="replace").split("\n")  # the last one may be being written
    return [_line(path, number, text) for number, text in enumerate(whole, 1)]


def _line(path: Path, number: int, text: str) -> dict[str, float]:
    """The figures of a line; null ones are left out."""
    try:
        line = {name: value for name, value in json.loads(text).items() if value is not None}
    except (ValueError, AttributeError):
        line = {}
    figures = (line.get(name) for name in ("step", "tokens", "seconds", *(line.keys() & {*SOMETIMES, "loss", BITS})))
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in figures):
        raise DataError(f"line {number} of {path} is damaged", "remove that line, or resume the run")
    return line


def _columns(lines: Sequence[dict[str, float]], names: Sequence[str]) -> dict[str, Values]:
    return {name: np.array([line[name] for line in lines], np.float64) for name in names}


def _weight_bytes(folder: Path, rows: int) -> dict[str, Values]:
    """The column of the weights' bytes, from what the newest checkpoint says of itself."""
    found = sorted(folder.glob("step-*/training.json"))
    size = json.loads(found[-1].read_text("utf-8")).get("weight_bytes") if found else None
    return {} if size is None else {"bytes": np.full(rows, size, np.float64)}


def _tokenizer(folder: Path) -> str | None:
    found = sorted(folder.glob("step-*/tokenizer.json"))
    return hashlib.sha256(found[-1].read_bytes()).hexdigest() if found else None

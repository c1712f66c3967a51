"""Many training runs from one plan: side by side, within a time, continued by the next call, results as they come.

A plan is a TOML file:

    recipe = "../../recipes/open-english.toml"       # relative to the plan
    set = ["train.context=1024"]                     # of every run, as for unmul train --set
    [shapes]                                         # names for groups of overrides
    8m = ["model.hidden_size=320", "model.num_hidden_layers=6"]
    [[grid]]                                         # every combination is a run; as many grids as wanted
    shape = ["8m"]
    "model.type" = ["matmulfree", "transformer"]
    "train.lr" = [4e-3, 1e-2]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from unmul.data import open_shards
from unmul.train import load_recipe

__all__ = ["RESULTS", "Job", "Plan", "adopt", "read_plan", "read_results", "run_all"]

RESULTS = "results.jsonl"
MARGIN = 20.0  # seconds that a run gets to save, beyond those that it may train
LEAST = (
    60.0  # seconds that must be left for a run to begin: loading and compiling take as many, and no step is cut short
)
PATIENCE = 0.2  # seconds between two looks at what runs


@dataclass(frozen=True, eq=False)
class Job:
    """One run: the combination it stands for, and what is set for it."""

    point: Mapping[str, Any]
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        """The combination in words that a file name can have."""
        return "_".join(f"{key.rpartition('.')[2]}-{value}" for key, value in self.point.items())


@dataclass(frozen=True)
class Plan:
    """A recipe, what every run sets, named shapes, and grids of what differs."""

    recipe: Path
    common: tuple[str, ...]
    shapes: Mapping[str, Sequence[str]]
    grids: Sequence[Mapping[str, Sequence[Any]]]

    def jobs(self) -> Iterator[Job]:
        """All combinations of all grids, in order."""
        for grid in self.grids:
            for values in product(*grid.values()):
                yield self.job(dict(zip(grid, values, strict=True)))

    def job(self, point: Mapping[str, Any]) -> Job:
        """The run of one combination."""
        own = [f"{key}={json.dumps(value)}" for key, value in point.items() if key != "shape"]
        return Job(point, (*self.common, *self.shapes.get(point.get("shape", ""), ()), *own))


def read_plan(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """A plan from its file; overrides come after those of the plan, before those of a run."""
    raw = tomllib.loads(path.read_text("utf-8"))
    recipe = (path.parent / raw["recipe"]).resolve()
    return Plan(recipe, (*raw.get("set", ()), *overrides), raw.get("shapes", {}), raw.get("grid", ()))


def read_results(out: Path) -> list[dict[str, Any]]:
    """What is there of the results, in the order in which runs ended."""
    path = out / RESULTS
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def adopt(other: Path, jobs: Sequence[Job], out: Path) -> None:
    """Take over from another plan's folder the runs that jobs stand for, with their logs and results."""
    wanted = {job.name for job in jobs} - {result["name"] for result in read_results(out)}
    for result in read_results(other):
        if result["name"] in wanted:
            shutil.copytree(other / result["name"], out / result["name"])
            _record(out, result)


def run_all(plan: Plan, jobs: Sequence[Job], out: Path, *, seconds: float, parallel: int) -> bool:
    """Run what has no result yet, until the time is over; whether all of it is done.

    A run that is out of time saves, and goes on in the next call. One that fails is told and left to the next call.
    """
    end = time.monotonic() + seconds
    shards = _shards(plan, out)
    done = {result["name"] for result in read_results(out)}
    waiting = [job for job in jobs if job.name not in done]
    running: dict[Job, subprocess.Popen[bytes]] = {}
    while waiting or running:
        while waiting and len(running) < parallel and end - time.monotonic() > MARGIN + LEAST:
            job = waiting.pop(0)
            limit = f"train.max_seconds={end - time.monotonic() - MARGIN:.0f}"
            running[job] = _start(plan.recipe, job, out, [f"data.shards={shards}", limit])
        if not running:
            break
        time.sleep(PATIENCE)
        for job in [job for job, process in running.items() if process.poll() is not None]:
            _finish(job, running.pop(job), out)
    return {job.name for job in jobs} <= {result["name"] for result in read_results(out)}


def _shards(plan: Plan, out: Path) -> Path:
    """The token shards of all runs, made before any begins."""
    out.mkdir(parents=True, exist_ok=True)
    data = load_recipe(plan.recipe, plan.common).data
    return open_shards(data.shards or out / "shards", data.source, lines=True)[0].folder.resolve()


def _start(recipe: Path, job: Job, out: Path, more: Sequence[str]) -> subprocess.Popen[bytes]:
    words = [word for override in (*job.overrides, *more) for word in ("--set", override)]
    command = [sys.executable, "-m", "unmul", "train", str(recipe), *words, "--out", str(out / job.name)]
    print(f"start {job.name}", flush=True)
    with (out / f"{job.name}.json").open("wb") as answer, (out / f"{job.name}.txt").open("ab") as said:
        return subprocess.Popen([*command, "--resume", "--json"], stdout=answer, stderr=said)


def _finish(job: Job, process: subprocess.Popen[bytes], out: Path) -> None:
    said = (out / f"{job.name}.txt").read_text("utf-8").splitlines()
    if process.returncode:
        return print(f"FAILED {job.name}: {said[-1] if said else process.returncode}", flush=True)
    answer = json.loads((out / f"{job.name}.json").read_text("utf-8"))
    card = json.loads((Path(answer["checkpoint"]) / "training.json").read_text("utf-8"))
    if answer["steps"] < card["recipe"]["train"]["steps"]:
        return print(f"out of time: {job.name} after step {answer['steps']}", flush=True)
    figures = {key: answer[key] for key in ("steps", "tokens", "final_loss", "bits_per_byte", "tokens_per_s")}
    sizes = {key: card[key] for key in ("parameters", "inner_parameters", "flops", "weight_bytes")}
    _record(out, {"name": job.name, **job.point, **figures, **sizes})
    print(f"done {job.name}: {answer['bits_per_byte']} bits a byte, {answer['tokens_per_s']:,.0f} tokens/s", flush=True)


def _record(out: Path, result: Mapping[str, Any]) -> None:
    with (out / RESULTS).open("a", encoding="utf-8") as results:
        results.write(json.dumps(result) + "\n")

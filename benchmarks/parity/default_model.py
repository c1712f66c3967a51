"""The default model in calls of a few minutes each, on a machine that may be taken away after any of them.

    python benchmarks/parity/default_model.py recipes/open-english.toml --work runs/default --collect $OUT \
        --seconds 560 --cooldown 60 [--carried CARRIED --parts 2] [--text FILE ...] [--set key=value ...]

Every call trains the trunk on, at its highest rate, until the clock says stop. A branch then starts from the trunk's
weights, falls to the floor in the seconds of --cooldown, and is packed and collected: so whichever call is the last
one, what it left is a finished model; --cooldown 0 spares the branch where another call is certain. The next call
goes on with the trunk. Moments begin anew in a branch; with betas of 0.95 they forget within some twenty steps anyway.
A trunk that fails leaves its last checkpoint to the branch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from session import add_arguments, collect, corpus, tarred

TRUNK, BRANCH, PACKED = "trunk", "branch", "packed"  # folders in --work; a branch is named after the trunk's steps
ENDLESS = 1_000_000  # steps: the clock ends the trunk
WARMUP = 500  # steps of the trunk
RESERVE = 90.0  # seconds of a call for two starts, compiling, validation, packing and measuring
WORTH = 30.0  # seconds of the trunk that are worth starting and compiling for
RECENT = 100  # steps whose speed is taken for that of the branch
PROMPTS = ("Once upon a time", "The old man looked at the sea and", "A cell is", "Under this law, a person may")


class Trainer:
    """What all runs of a call share: recipe, overrides of the caller and of the corpus, the folder they stand in."""

    def __init__(self, recipe: Path, overrides: list[str], work: Path) -> None:
        self._recipe, self._overrides, self.work = recipe, overrides, work

    def run(self, name: str, seconds: float, *overrides: str) -> dict[str, Any]:
        """Train a run on for so many seconds at most, one at least; its answer, empty where it failed."""
        own = [*self._overrides, *overrides, "train.keep=1", f"train.max_seconds={max(seconds, 1):.0f}"]
        words = [word for override in own for word in ("--set", override)]
        return unmul("train", self._recipe, *words, "--out", self.work / name, "--resume")


def unmul(*words: object) -> dict[str, Any]:
    """The document that a command of unmul writes, its progress on stderr; empty where it failed."""
    command = [sys.executable, "-m", "unmul", *map(str, words), "--json"]
    answer = subprocess.run(command, check=False, stdout=subprocess.PIPE).stdout
    return dict(json.loads(answer)) if answer else {}


def grow_trunk(trainer: Trainer, seconds: float) -> Path:
    """Train the trunk on where that is worth the start, its rate constant after the warm-up; its newest checkpoint."""
    if seconds > WORTH:
        _train_on(trainer, seconds)
    checkpoints = sorted((trainer.work / TRUNK).glob("step-*"))
    return checkpoints[-1] if checkpoints else sys.exit("the trunk has no checkpoint: see what it said")


def _train_on(trainer: Trainer, seconds: float) -> None:
    constant = [f"train.steps={ENDLESS}", f"train.warmup={WARMUP / ENDLESS}", "train.schedule=wsd", "train.cooldown=0"]
    trainer.run(TRUNK, seconds, *constant, f"train.validate_every={ENDLESS}")


def steps_in(seconds: float, log: Path) -> int:
    """How many steps a run takes in so many seconds, by the speed of the last ones in its log; two at least."""
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()[-RECENT:]]
    speed = statistics.median(line["tokens_per_s"] for line in lines)
    return max(round(seconds * speed * lines[-1]["step"] / lines[-1]["tokens"]), 2)


def cool(trainer: Trainer, checkpoint: Path, seconds: float, limit: float) -> dict[str, Any]:
    """A run from the weights of a checkpoint down to the floor in so many seconds, or up to the limit."""
    steps, done = steps_in(seconds, trainer.work / TRUNK / "log.jsonl"), int(checkpoint.name.rpartition("-")[2])
    fall = ["train.schedule=wsd", "train.warmup=0.02", "train.cooldown=0.98", f"train.steps={steps}"]
    other = [f"train.init={checkpoint}", f"train.seed={1 + done}"]  # other windows than the trunk began with
    once = [f"train.validate_every={steps}", f"train.checkpoint_every={steps}"]
    return trainer.run(f"{BRANCH}-{done}", limit, *fall, *other, *once)


def tried(packed: Path, texts: list[Path]) -> dict[str, Any]:
    """What a packed model writes, and how well it predicts texts."""
    samples = [unmul("run", packed, "-p", prompt, "--seed", 1).get("text") for prompt in PROMPTS]
    words = [word for text in texts for word in ("--text", text)]
    return {"samples": dict(zip(PROMPTS, samples, strict=True)), "eval": unmul("eval", packed, *words) if texts else {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--work", type=Path, required=True, help="folder that lasts from call to call")
    parser.add_argument("--seconds", type=float, default=560, help="of the whole call")
    parser.add_argument("--cooldown", type=float, default=60, help="seconds of them for the branch; 0: no branch")
    parser.add_argument("--reserve", type=float, default=RESERVE, help="seconds of them in which nothing trains")
    parser.add_argument("--text", type=Path, action="append", default=[], help="to measure the packed model on")
    add_arguments(parser)
    options, began = parser.parse_args(), time.monotonic()
    overrides = corpus(options.carried, options.parts, options.work)
    if overrides is None:
        return
    trainer = Trainer(options.recipe, [*options.set, *overrides], options.work)
    end = began + options.seconds - options.reserve  # of training
    checkpoint = grow_trunk(trainer, end - options.cooldown - time.monotonic())
    if not options.cooldown:
        return
    branch = cool(trainer, checkpoint, options.cooldown, end + options.reserve / 2 - time.monotonic())
    finish(options, branch)


def finish(options: argparse.Namespace, branch: dict[str, Any]) -> None:
    """Pack and collect the branch first of all, then say what came of it."""
    packed = options.work / PACKED
    size = unmul("pack", branch["checkpoint"], packed)
    if options.collect:
        tarred(packed, sorted(packed.iterdir()), options.collect / f"{PACKED}.tar")
    found = {"branch": branch, "pack": size, **tried(packed, options.text)}
    (options.work / "default.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    collect(options.work, options.collect)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

"""Loss curves of variants on the same recipe and seed, and of another seed as a yardstick.

    python benchmarks/train/curves.py RECIPE [--compare fused,int8] [--operations naive|triton] [--set key=value ...]
                                      [--out DIR] [--figure FILE.svg]

All but `fused` run on the --operations given (on a CPU triton is its interpreter: tiny shapes only). `fused` is triton
against them, `int8` takes the backward products in 8 bits (train.int8_backward). Prints and writes (DIR/curves.json)
of every run, the next seed's too, how far the losses of its last half lie from the plain run's, and its bits per byte.
For one GPU (how long these take there is not known yet):

    python benchmarks/train/curves.py recipes/tales-tiny.toml --set train.batch=16 --set train.steps=1000
    python benchmarks/train/curves.py recipes/tales-tiny.toml --set train.batch=16 --set train.steps=1000 \\
        --operations triton --compare int8
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import torch

from unmul.plot import Run, draw, read_run
from unmul.train import load_recipe

BITS = "validation_bits_per_byte"


def train(recipe: Path, overrides: list[str], out: Path, operations: str) -> Run:
    """One run under UNMUL_OPS, which is read when Python starts."""
    environment = os.environ | {"UNMUL_OPS": operations}
    if operations == "triton" and not torch.cuda.is_available():
        environment["TRITON_INTERPRET"] = "1"
    words = [word for override in overrides for word in ("--set", override)]
    command = [sys.executable, "-m", "unmul", "train", str(recipe), *words, "--out", str(out)]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return read_run(out)


def distance(one: Run, other: Run) -> float:
    """Root mean square difference of the smoothed losses over the last half of the steps."""
    half = len(one.steps["loss"]) // 2
    return math.sqrt(float(((one.steps["loss"] - other.steps["loss"])[half:] ** 2).mean()))


def plan(compare: str, operations: str, seed: int) -> dict[str, tuple[str, list[str]]]:
    """Operations and overrides of every run by its name, the plain one first."""
    variants = {"fused": ("triton", []), "int8": (operations, ["train.int8_backward=true"])}
    yardstick = {f"{operations}-seed{seed + 1}": (operations, [f"train.seed={seed + 1}"])}
    return {operations: (operations, []), **yardstick, **{name: variants[name] for name in compare.split(",")}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--compare", default="fused", help="variants, with commas between")
    parser.add_argument("--operations", default="naive", choices=["naive", "triton"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs/curves"))
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    shared = [*options.set, f"data.shards={options.out.resolve() / 'shards'}"]
    planned = plan(options.compare, options.operations, load_recipe(options.recipe, options.set).train.seed)
    runs = {
        name: train(options.recipe, shared + overrides, options.out / name, operations)
        for name, (operations, overrides) in planned.items()
    }
    draw(list(runs.values()), "tokens", options.figure or options.out / "curves.svg")
    plain = runs[options.operations]
    found = {
        name: {"from_plain": distance(plain, run), "bits_per_byte": float(run.validation[BITS][-1])}
        for name, run in runs.items()
    }
    report = {"recipe": options.recipe.name, "set": options.set, "plain": options.operations, "runs": found}
    (options.out / "curves.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

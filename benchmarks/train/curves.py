"""Loss curves of the fused and the naive operations on the same recipe and seed, and of another seed as a yardstick.

    python benchmarks/train/curves.py RECIPE [--set key=value ...] [--out DIR] [--figure FILE.svg]

Three runs in DIR: naive, triton (on a CPU in Triton's interpreter: tiny shapes only), and naive with the next seed.
Prints and writes (DIR/curves.json) how far the losses of the last half lie apart: fused from naive, and seed from seed.
For one GPU (how long it takes there is not known yet):

    python benchmarks/train/curves.py recipes/tales-tiny.toml --set train.batch=16 --set train.steps=1000
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs/curves"))
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    seed = load_recipe(options.recipe, options.set).train.seed
    overrides = [*options.set, f"data.shards={options.out.resolve() / 'shards'}"]
    naive = train(options.recipe, overrides, options.out / "naive", "naive")
    fused = train(options.recipe, overrides, options.out / "triton", "triton")
    other = train(
        options.recipe, [*overrides, f"train.seed={seed + 1}"], options.out / f"naive-seed{seed + 1}", "naive"
    )
    draw([naive, fused, other], "tokens", options.figure or options.out / "curves.svg")
    found = {"fused_from_naive": distance(naive, fused), "seed_from_seed": distance(naive, other)}
    (options.out / "curves.json").write_text(json.dumps({"recipe": options.recipe.name, **found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

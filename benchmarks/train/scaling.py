"""Tokens a second of a whole training step on 1 and on N processes: weak and strong scaling, DDP and FSDP.

Every timing is a launch of its own through torchrun, and the launches of all variants take turns. Before any number is
printed, the first losses of all variants are compared with those of one process on the same global batches.

    python benchmarks/train/scaling.py 1.3b --processes 2 4 8 --batch 8 --context 2048 --out report.json
    python benchmarks/train/scaling.py tiny --device cpu --batch 2 --context 32 --dtype fp32 --rounds 1
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unmul.config import PRESETS, ModelConfig
from unmul.data import Batches
from unmul.model import MatMulFreeLM, initialise
from unmul.train.loop import make_optimizers, steps
from unmul.train.parallel import replicate
from unmul.train.recipe import TrainPart
from unmul.train.world import World, open_world

SHAPES = {
    **PRESETS,
    "tiny": ModelConfig(vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2),
}
CHECKED = 3  # first steps: their losses are compared, their times are not counted
SAME = {"fp32": 1e-5, "bf16": 5e-3}  # relative; in bf16 also gradients of other sums are rounded, to 8 bits


@dataclass(frozen=True)
class Variant:
    """One way to train: how many processes, how they share the model, and the windows that an update learns from."""

    processes: int
    kind: str
    batch: int
    accumulate: int = 1

    @property
    def windows(self) -> int:
        return self.batch * self.accumulate

    @property
    def alone(self) -> Variant:
        """One process that learns from the same windows, in as many turns as there were processes."""
        return Variant(1, "auto", self.batch // self.processes, self.processes)


def variants(processes: list[int], kinds: list[str], batch: int) -> list[Variant]:
    """One process; then for each number and kind the same work a process (weak) and the same work in all (strong)."""
    found = [Variant(1, "auto", batch)]
    for count in processes:
        sizes = [batch * count] + ([batch] if batch % count == 0 else [])
        found += [Variant(count, kind, size) for kind in kinds for size in sizes]
    return found


def work(options: argparse.Namespace, variant: Variant) -> None:
    """What each process does: train on random tokens; rank 0 writes losses, seconds a step and peak memory."""
    train = TrainPart(
        steps=CHECKED + options.steps, batch=variant.batch, accumulate=variant.accumulate, context=options.context,
        lr=1e-3, dtype=options.dtype, device=options.device, parallel=variant.kind,
        checkpoint_activations=options.checkpoint_activations,
    )  # fmt: skip
    with open_world(train) as world:
        found = train_on_noise(options, train, world)
        if world.leads:
            options.answer.write_text(json.dumps(found))


def train_on_noise(options: argparse.Namespace, train: TrainPart, world: World) -> dict[str, Any]:
    """The figures of one process; its model is freed before the world ends, as train.world wants it."""
    model = MatMulFreeLM(SHAPES[options.model])
    initialise(model, torch.Generator().manual_seed(1))
    model.model.gradient_checkpointing = train.checkpoint_activations
    replica, optimizers = replicate(model, world, train), make_optimizers(model, train)
    losses, ends = [], [time.perf_counter()]
    for step in steps(replica, optimizers, random_batches(model.config, train, world), train, 0):
        losses.append(step.loss)  # a number: the GPU has finished all but the update
        ends.append(time.perf_counter())
    seconds = np.diff(ends)[CHECKED:].tolist()
    return {"losses": losses[:CHECKED], "seconds": seconds, "on": world.describe(), "peak_GiB": peak(world)}


def random_batches(config: ModelConfig, train: TrainPart, world: World) -> Batches:
    """The same windows in the same order, however an update is split."""
    count = train.tokens_per_step * train.steps + train.context + 1
    tokens = np.random.default_rng(1).zipf(1.3, count).clip(max=config.vocab_size - 1).astype(np.uint16)
    return Batches([tokens], batch=train.batch, context=train.context, seed=1, rank=world.rank, ranks=world.size)


def peak(world: World) -> float | None:
    return torch.cuda.max_memory_allocated() / 2**30 if world.device.type == "cuda" else None


def launch(options: argparse.Namespace, variant: Variant) -> dict[str, Any]:
    """One launch of a variant through torchrun; what its rank 0 wrote."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(variant.processes), __file__, *sys.argv[1:], "--answer", str(answer)]
        command += ["--variant", variant.kind, str(variant.batch), str(variant.accumulate)]
        subprocess.run(command, check=True, env={"OMP_NUM_THREADS": "1", **os.environ})
        return dict(json.loads(answer.read_text()))


def check(options: argparse.Namespace, first: dict[Variant, dict[str, Any]]) -> None:
    """Refuse to measure variants that do not compute the same as one process."""
    expected: dict[Variant, list[float]] = {}
    for variant in (variant for variant in first if variant.processes > 1):
        if variant.alone not in expected:
            expected[variant.alone] = launch(options, variant.alone)["losses"]
        if not np.allclose(first[variant]["losses"], expected[variant.alone], rtol=SAME[options.dtype], atol=0):
            sys.exit(f"{variant}: losses {first[variant]['losses']}, one process has {expected[variant.alone]}")


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Launch all variants in turn, as many rounds as asked for."""
    wanted = variants(options.processes, options.kinds, options.batch)
    runs = {variant: [launch(options, variant)] for variant in wanted}
    check(options, {variant: found[0] for variant, found in runs.items()})
    for _ in range(options.rounds - 1):
        for variant in wanted:
            runs[variant].append(launch(options, variant))
    return [summary(options, variant, found) for variant, found in runs.items()]


def summary(options: argparse.Namespace, variant: Variant, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Median and spread of tokens a second over launches; each launch counts with its median step."""
    rates = [variant.windows * options.context / statistics.median(run["seconds"]) for run in runs]
    figures = {"tokens_per_s": statistics.median(rates), "least": min(rates), "most": max(rates)}
    return {**asdict(variant), **figures, **{key: runs[0][key] for key in ("peak_GiB", "on", "losses")}}


def show(rows: list[dict[str, Any]]) -> None:
    """One line a variant; efficiency 1 is N times the speed of one process."""
    for row in rows:
        efficiency = row["tokens_per_s"] / (row["processes"] * rows[0]["tokens_per_s"])
        label = f"{row['on']} {row['kind']}, {row['batch']} windows"
        spread = f"[{row['least']:,.0f}-{row['most']:,.0f}]"
        print(f"{label:40s} {row['tokens_per_s']:12,.0f} tokens/s {spread:24s} efficiency {efficiency:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(SHAPES))
    parser.add_argument("--processes", type=int, nargs="+", default=[2])
    parser.add_argument("--kinds", nargs="+", choices=["ddp", "fsdp"], default=["ddp", "fsdp"])
    parser.add_argument("--batch", type=int, default=8, help="windows of one process")
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=10, help="timed steps of a launch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=sorted(SAME), default="bf16")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--checkpoint-activations", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--variant", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        kind, *sizes = options.variant
        return work(options, Variant(int(os.environ["WORLD_SIZE"]), kind, *map(int, sizes)))
    rows = measure(options)
    show(rows)
    if options.out:
        setting = {key: getattr(options, key) for key in ("model", "context", "batch", "steps", "rounds", "dtype")}
        options.out.write_text(json.dumps({"torch": torch.__version__, **setting, "variants": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""A whole run: data, model, the loop, and around it logging, validation, checkpoints and a good end on a signal."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from unmul.data import Batches, Shards, open_shards
from unmul.errors import ConfigError, TrainingError, UsageError
from unmul.model import MatMulFreeLM
from unmul.train import state
from unmul.train.ema import Average
from unmul.train.families import family
from unmul.train.family import LanguageModel, draw_embeddings, use_int8_backward
from unmul.train.flops import size, weight_bytes
from unmul.train.log import Log
from unmul.train.loop import Step, make_optimizers, steps
from unmul.train.meter import Energy, Meter
from unmul.train.parallel import Replica, replicate
from unmul.train.recipe import TYPES, Recipe
from unmul.train.silence import Silence
from unmul.train.start import earlier_training, start_from
from unmul.train.trackers import Tracker, open_trackers
from unmul.train.validate import validate
from unmul.train.world import World, open_world

__all__ = ["Result", "Trainer", "run"]

OUT_OF_TIME = 1  # why a run stops, beside the numbers of the signals that are collected, which are greater


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended.

    Args:
        steps: done in all, and `tokens` seen in them.
        final_loss: of the last step, nats a token; None when there was none to do.
        joules: over all devices and resumptions; None where one was not measured.
        joules_source, joules_reason: the meter in words, or why there is none.
        bits_per_byte: on the validation documents at the last checkpoint; None when stopped early.
        checkpoint: the folder to pack, evaluate or resume from.
        signal: SIGINT or SIGTERM that ended the run before its time. out_of_time: train.max_seconds did.
        leads: whether this process is the one, of several, that tells the user.
    """

    steps: int
    tokens: int
    final_loss: float | None
    bits_per_byte: float | None
    tokens_per_s: float
    joules: float | None
    joules_source: str | None
    joules_reason: str
    checkpoint: Path
    signal: signal.Signals | None = None
    out_of_time: bool = False
    leads: bool = True


def run(recipe: Recipe, *, out: Path | None = None, resume: bool = False, lines: bool = False) -> Result:
    """Train a recipe, or continue it; under torchrun, on all of its processes.

    Args:
        out: the run's folder, runs/NAME when left out; receives shards, log.jsonl and the last checkpoints step-N.
        resume: continue from the newest checkpoint in out; without one, start.
        lines: plain progress lines even on a terminal.
    """
    out = out or Path("runs") / recipe.name
    # What is left in float32, validation above all, is meant: no TF32 products.
    torch.set_float32_matmul_precision("highest")
    with open_world(recipe.train) as world, _failures_of_the_gpu():
        return _run(recipe, world, out, resume, lines)  # apart, so that no wrapped model outlives the world


@contextmanager
def _failures_of_the_gpu() -> Iterator[None]:
    """Say in one sentence that the GPU failed: nothing in this process reaches it any more; checkpoints are sound."""
    try:
        yield
    except torch.AcceleratorError as error:
        cause, remedy = str(error).splitlines()[0], "go on from the last checkpoint with --resume"
        raise TrainingError(f"the GPU failed ({cause})", f"{remedy}; docs/train.md says how to find out why") from error


def _run(recipe: Recipe, world: World, out: Path, resume: bool, lines: bool) -> Result:
    found = state.latest(out)
    if found and not resume:
        remedy = "continue it with --resume, or use another --out"
        raise UsageError(f"{out} holds a run already ({found.name})", remedy)
    resumed = found is not None
    trackers = open_trackers(recipe.train.trackers, out, recipe.to_dict(), resumed=resumed) if world.leads else ()
    shards, made = world.first(lambda: _open_shards(recipe, out, lines))
    with _saver(recipe, out, shards, world) as saver, Energy(world) as energy:
        trainer = Trainer(recipe, shards, world, saver, energy)
        if found:
            trainer.restore(found)
        log = _log(trainer, out, trackers, lines) if world.leads else Silence()
        with log, _signals() as received:
            log.say(trainer.summary(made))
            return trainer.train(log, received, found)


def _open_shards(recipe: Recipe, out: Path, lines: bool) -> tuple[Shards, bool]:
    source = recipe.data.source
    out.mkdir(parents=True, exist_ok=True)
    return open_shards(recipe.data.shards or out / "shards", source, lines=lines)


def _saver(recipe: Recipe, out: Path, shards: Shards, world: World) -> state.Saver:
    train, kind = recipe.train, family(recipe.kind)
    return state.Saver(out, world, kind, shards, keep=train.keep, background=train.async_checkpoint)


def _log(trainer: Trainer, out: Path, trackers: Sequence[Tracker], lines: bool) -> Log:
    steps, meter = trainer.recipe.train.steps, trainer.meter()
    return Log(out / "log.jsonl", done=trainer.done, steps=steps, meter=meter, trackers=trackers, lines=lines)


def _average(replica: Replica, decay: float) -> Average | None:
    if decay and replica.kind == "fsdp":
        raise ConfigError("train.ema cannot average shards (fsdp)", "set train.parallel=ddp, or train.ema=0")
    return Average(replica.model, decay) if decay else None


class Trainer:
    """The parts of a run, put together from a recipe and its shards."""

    def __init__(self, recipe: Recipe, shards: Shards, world: World, saver: state.Saver, energy: Energy) -> None:
        train = recipe.train
        config = recipe.model_config(shards.vocab_size, shards.end)
        self.recipe, self.shards, self.world, self.saver, self.done = recipe, shards, world, saver, 0
        self.energy = energy
        self.batches = Batches(
            shards.read(shards.train),
            batch=train.batch,
            context=train.context,
            seed=train.seed,
            end=shards.end if train.document_mask else None,
            rank=world.rank,
            ranks=world.size,
        )
        self.family = family(recipe.kind)
        self.model: LanguageModel = self.family.build(config, train.seed)  # on every process the same
        if train.embedding_range:
            draw_embeddings(self.model, train.embedding_range, train.seed)
        if train.init:
            start_from(cast(MatMulFreeLM, self.model), train.init)  # the recipe allows no other family
        self.before = earlier_training(train.init) if train.init else {}
        if train.checkpoint_activations:
            self.family.checkpoint_activations(self.model)
        if train.int8_backward:
            use_int8_backward(self.model)
        if train.compile:
            self.family.compile(self.model)
        self.replica = replicate(self.model, world, train)
        if train.unrounded and self.replica.kind == "fsdp":
            raise ConfigError(
                "train.unrounded cannot change what is sharded (fsdp)", "set train.parallel=ddp, or leave it out"
            )
        self.average = _average(self.replica, train.ema)
        if train.optimizer == "muon" and self.replica.kind == "fsdp":
            raise ConfigError("train.optimizer muon needs whole matrices (fsdp)", "set train.parallel=ddp, or adamw")
        self.optimizers = make_optimizers(self.model, train)
        self.bits_per_byte: float | None = None

    def restore(self, checkpoint: Path) -> None:
        """Continue from a checkpoint of this run."""
        self.done = state.restore(checkpoint, self.model, self.optimizers, self.average, self.card())["steps"]

    def train(self, log: Log | Silence, received: list[signal.Signals], saved: Path | None) -> Result:
        """Step until the end, a signal to any process or train.max_seconds, and leave a checkpoint.

        Args:
            saved: the one that the run went on from.
        """
        train, last, stop, began = self.recipe.train, None, 0, time.monotonic()
        for last in steps(self.replica, self.optimizers, self.batches, train, self.done):
            self.done = last.done
            if self.average:
                self.average.update(self.model)
            log.step(last, self.energy.joules())
            due = bool(train.max_seconds) and time.monotonic() - began >= train.max_seconds
            final, stop = last.done == train.steps, self.world.largest(max(received, default=OUT_OF_TIME * due))
            if final or (last.done % train.validate_every == 0 and not stop):
                self.validate(log)
            if final or stop or last.done % train.checkpoint_every == 0:
                saved = self.saver.save(self.model, self.optimizers, self.average, self.card())
            if stop:
                break
        self.saver.wait()
        assert saved is not None  # steps is at least 1, so one was written or found
        return self._result(last, saved, log, stop)

    def validate(self, log: Log | Silence) -> None:
        """Measure, record and show bits per byte on the validation documents."""
        figures = {"validation_bits_per_byte": self._bits_per_byte(self.model)}
        if self.average:
            figures["validation_bits_per_byte_ema"] = self._bits_per_byte(self.average.model)
        self.bits_per_byte = figures["validation_bits_per_byte"]
        log.record(self.done, figures, self.energy.joules())
        shown = " bits per byte, averaged weights ".join(f"{value:.4f}" for value in figures.values())
        log.say(f"step {self.done}/{self.recipe.train.steps}  validation {shown} bits per byte")

    def _bits_per_byte(self, model: LanguageModel) -> float:
        return validate(self.family.engine(model), self.shards, self.world).bits_per_byte

    def meter(self) -> Meter:
        """What a step costs."""
        train, shape = self.recipe.train, self.model.config
        return Meter(
            tokens_per_step=train.tokens_per_step,
            flops_per_token=size(self.recipe.kind, shape, train.context).flops_per_token,
            device=self.world.device,
            devices=self.world.size,
            dtype=train.dtype,
        )

    def card(self) -> dict[str, Any]:
        """What a checkpoint says about its making."""
        kind, shape, train = self.recipe.kind, self.model.config, self.recipe.train
        tokens, sizes = self.done * train.tokens_per_step, size(kind, shape, train.context)
        return {
            "recipe": self.recipe.to_dict(),
            "shards": self.shards.key,
            "steps": self.done,
            "tokens": tokens,
            "flops": tokens * sizes.flops_per_token,
            "before": self.before,
            "parameters": sizes.parameters,
            "inner_parameters": sizes.inner,
            "weight_bytes": weight_bytes(kind, shape),
            "validation_bits_per_byte": self.bits_per_byte,
        }

    def summary(self, made: bool) -> str:
        """One line about what is going to happen, and one for ours, the Transformer and this kind of model."""
        train, tokens = self.recipe.train, sum(self.shards.train.tokens)
        shared = "" if self.replica.kind == "single" else f" ({self.replica.kind})"
        kinds = dict.fromkeys((*TYPES[:2], self.recipe.kind))
        width = max(map(len, kinds))
        sizes = {kind: size(kind, self.model.config, train.context) for kind in kinds}
        return (
            f"{self.recipe.name}: {self.recipe.kind}, {tokens:,} tokens of text"
            f" ({'made' if made else 'found'} in {self.shards.folder}),"
            f" {train.steps * train.tokens_per_step / tokens:.2f} epochs,"
            f" {train.dtype} on {self.world.describe()}{shared}, from step {self.done}"
        ) + "".join(
            f"\n  {kind:{width}}  {size.parameters:,} parameters, {size.inner:,} without embeddings and head"
            for kind, size in sizes.items()
        )

    def _result(self, last: Step | None, saved: Path, log: Log | Silence, stop: int) -> Result:
        source, reason = self.energy.described()
        if log.joules is None and source is not None:
            source, reason = None, "a process, or the run before it was resumed, had no meter"
        return Result(
            steps=self.done,
            tokens=self.done * self.recipe.train.tokens_per_step,
            final_loss=last.loss if last else None,
            bits_per_byte=self.bits_per_byte,
            tokens_per_s=log.tokens_per_s(self.done),
            joules=log.joules,
            joules_source=source,
            joules_reason=reason,
            checkpoint=saved,
            signal=signal.Signals(stop) if stop > OUT_OF_TIME else None,
            out_of_time=stop == OUT_OF_TIME and self.done < self.recipe.train.steps,
            leads=self.world.leads,
        )


@contextmanager
def _signals() -> Iterator[list[signal.Signals]]:
    """Collect SIGINT and SIGTERM instead of dying of them; the second one has its usual effect."""
    received: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    handled = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in handled}

    def note(number: int, frame: object) -> None:
        received.append(signal.Signals(number))
        signal.signal(number, before[signal.Signals(number)])

    for number in handled:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number in handled:
            signal.signal(number, before[number])

"""A whole run: data, model, the loop, and around it logging, validation, checkpoints and a good end on a signal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unmul.data import Batches, Shards, open_shards
from unmul.errors import UsageError
from unmul.model import MatMulFreeLM, initialise
from unmul.train import state
from unmul.train.log import Log
from unmul.train.loop import Step, make_optimizer, steps
from unmul.train.recipe import Recipe
from unmul.train.validate import validate

__all__ = ["Result", "Trainer", "run"]


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended.

    Args:
        steps: done in all, and `tokens` seen in them.
        final_loss: of the last step, nats a token; None when there was none to do.
        bits_per_byte: on the validation documents at the last checkpoint; None when stopped early.
        checkpoint: the folder to pack, evaluate or resume from.
        signal: SIGINT or SIGTERM that ended the run before its time.
    """

    steps: int
    tokens: int
    final_loss: float | None
    bits_per_byte: float | None
    tokens_per_s: float
    checkpoint: Path
    signal: signal.Signals | None = None


def run(recipe: Recipe, *, out: Path | None = None, resume: bool = False, lines: bool = False) -> Result:
    """Train a recipe, or continue it.

    Args:
        out: the run's folder, runs/NAME when left out; receives shards, log.jsonl and the last checkpoints step-N.
        resume: continue from the newest checkpoint in out; without one, start.
        lines: plain progress lines even on a terminal.
    """
    out = out or Path("runs") / recipe.name
    found = state.latest(out)
    if found and not resume:
        raise UsageError(f"{out} holds a run already ({found.name})", "continue it with --resume, or use another --out")
    source = recipe.data.source
    out.mkdir(parents=True, exist_ok=True)
    shards, made = open_shards(recipe.data.shards or out / "shards", source, lines=lines)
    trainer = Trainer(recipe, out, shards)
    if found:
        trainer.restore(found)
    log = Log(
        out / "log.jsonl",
        done=trainer.done,
        steps=recipe.train.steps,
        tokens_per_step=recipe.train.tokens_per_step,
        lines=lines,
    )
    with log, _signals() as received:
        log.say(trainer.summary(made))
        return trainer.train(log, received)


class Trainer:
    """The parts of a run, put together from a recipe and its shards."""

    def __init__(self, recipe: Recipe, out: Path, shards: Shards) -> None:
        train = recipe.train
        config = recipe.model_config(shards.vocab_size, shards.end)
        self.recipe, self.out, self.shards, self.done = recipe, out, shards, 0
        end = shards.end if train.document_mask else None
        self.batches = Batches(
            shards.read(shards.train), batch=train.batch, context=train.context, seed=train.seed, end=end
        )
        self.model = MatMulFreeLM(config)
        initialise(self.model, torch.Generator().manual_seed(train.seed))
        self.optimizer = make_optimizer(self.model, train)
        self.bits_per_byte: float | None = None

    def restore(self, checkpoint: Path) -> None:
        """Continue from a checkpoint of this run."""
        self.done = state.restore(checkpoint, self.optimizer, self.model, self.card())["steps"]

    def train(self, log: Log, received: list[signal.Signals]) -> Result:
        """Step until the end or a signal; both leave a checkpoint."""
        train, saved, last = self.recipe.train, None, None
        for last in steps(self.model, self.optimizer, self.batches, train, self.done):
            self.done = last.done
            log.step(last.done, {"loss": last.loss, "norm": last.norm, "rate": last.rate})
            final = last.done == train.steps
            if final or (last.done % train.validate_every == 0 and not received):
                self.validate(log)
            if final or received or last.done % train.checkpoint_every == 0:
                saved = self.save()
            if received:
                break
        return self._result(last, saved, log, received)

    def validate(self, log: Log) -> None:
        """Measure, record and show bits per byte on the validation documents."""
        self.bits_per_byte = validate(self.model, self.shards).bits_per_byte
        log.record(self.done, {"validation_bits_per_byte": self.bits_per_byte})
        log.say(f"step {self.done}/{self.recipe.train.steps}  validation {self.bits_per_byte:.4f} bits per byte")

    def save(self) -> Path:
        """Write a checkpoint of this moment."""
        return state.save(self.out, self.model, self.optimizer, self.shards, self.card())

    def card(self) -> dict[str, Any]:
        """What a checkpoint says about its making."""
        return {
            "recipe": self.recipe.to_dict(),
            "shards": self.shards.key,
            "steps": self.done,
            "tokens": self.done * self.recipe.train.tokens_per_step,
            "validation_bits_per_byte": self.bits_per_byte,
        }

    def summary(self, made: bool) -> str:
        """One line about what is going to happen."""
        train, tokens = self.recipe.train, sum(self.shards.train.tokens)
        return (
            f"{self.recipe.name}: {self.model.config.parameters:,} parameters, {tokens:,} tokens of text"
            f" ({'made' if made else 'found'} in {self.shards.folder}),"
            f" {train.steps * train.tokens_per_step / tokens:.2f} epochs, {train.dtype}, from step {self.done}"
        )

    def _result(self, last: Step | None, saved: Path | None, log: Log, received: list[signal.Signals]) -> Result:
        return Result(
            steps=self.done,
            tokens=self.done * self.recipe.train.tokens_per_step,
            final_loss=last.loss if last else None,
            bits_per_byte=self.bits_per_byte,
            tokens_per_s=log.tokens_per_s(self.done),
            checkpoint=saved or state.latest(self.out) or self.save(),
            signal=received[0] if received else None,
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

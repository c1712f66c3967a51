"""The processes of a run: which one this is, its device, and what all must agree on. One process needs no torchrun."""

from __future__ import annotations

import datetime
import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from unmul.errors import ConfigError, TrainingError, UnmulError
from unmul.train.recipe import TrainPart

__all__ = ["World", "open_world"]

Made = TypeVar("Made")

PATIENCE = datetime.timedelta(hours=2)  # rank 0 may make the shards of a large text while the others wait
FAILED = 2  # exit status of a process that leaves the word to another, as for a user's error


@dataclass(frozen=True, slots=True)
class World:
    """Process rank of size processes, which trains on device. Every method that communicates is called on all ranks."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def first(self, make: Callable[[], Made]) -> Made:
        """What make() returns, called on rank 0 before the others, who find on disk what it left there."""
        if self.leads:
            made = make()
            self.largest(0)
            return made
        self.largest(0)
        return make()

    def largest(self, number: int) -> int:
        """The largest of all ranks' numbers; does not wait for the GPU."""
        if self.size == 1:
            return number
        numbers = torch.tensor(number)
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return int(numbers)

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Sums over all ranks, in float64."""
        sums = torch.tensor(numbers, dtype=torch.float64)
        if self.size > 1:
            dist.all_reduce(sums)
        return sums.tolist()

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Mean over all ranks of a tensor on the device; a NaN of one is a NaN for all."""
        if self.size == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total / self.size

    def raise_together(self, error: BaseException | None) -> None:
        """End all ranks where one has an error: those that have one raise it, the others leave without a word."""
        failed = self.largest(int(error is not None))
        if error is not None:
            raise error
        if failed:
            raise SystemExit(FAILED)

    def describe(self) -> str:
        """The devices in words: "cpu", "2 x cpu", "8 x NVIDIA H200"."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return name if self.size == 1 else f"{self.size} x {name}"


@contextmanager
def open_world(train: TrainPart) -> Iterator[World]:
    """The processes that torchrun (or Slurm, with the same variables) started, or this one alone.

    When one fails, the first to know raises; all others end without a word, so that a user reads one line.
    """
    device = _device(train.device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World(0, 1, device)
        return
    store, rank, size = next(rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=PrefixStore("run", store), rank=rank, world_size=size, timeout=PATIENCE)
    with _one_voice(store):
        yield World(rank, size, device)
    gc.collect()  # a model wrapped by DDP that is freed after its group can wait for the group's threads without end
    dist.destroy_process_group()  # not after an error: it could wait for a process that has ended


@contextmanager
def _one_voice(store: Store) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not _is_first(store):
            raise SystemExit(FAILED) from error
        if not isinstance(error, UnmulError) and _is_of_a_peer(error):
            raise TrainingError(
                "another process of this run ended or cannot be reached",
                "look for its own message, then continue with --resume",
            ) from error
        raise


def _is_first(store: Store) -> bool:
    try:
        return store.add("failures", 1) == 1
    except RuntimeError:  # the process that keeps the store has ended: it has spoken
        return False


def _is_of_a_peer(error: Exception) -> bool:
    """Whether communication failed; gloo has no class of its own for that."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _device(wanted: str) -> torch.device:
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    local, found = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= found:
        raise ConfigError(
            f"train.device {wanted!r} cannot be used: PyTorch sees {found} GPUs here, process {local} has none",
            "start one process a GPU, or set train.device=cpu",
        )
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device

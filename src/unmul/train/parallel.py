"""A model on the devices of a run: whole on one, a copy on each (DDP), or in shards (FSDP2).

The model and its operations know nothing of it. FSDP gathers the float32 weights of a block before its forward pass,
so that a projection sees its whole weight, and its scale mean|W| is that of one device. Gathering bf16 would be half
the traffic and other codes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from unmul.train.family import LanguageModel
from unmul.train.recipe import TrainPart
from unmul.train.world import World

__all__ = ["Replica", "replicate"]

BYTES = 16  # of training state a parameter: weight, gradient and two moments in float32


@dataclass(frozen=True, slots=True)
class Replica:
    """A model as one process trains it.

    Args:
        model: the plain model; under FSDP its parameters are shards (DTensor) outside of its own forward pass.
        kind: "single", "ddp" or "fsdp".
        loss: model.loss; a backward pass from it leaves gradients averaged over all processes.
        local: a context in which backward passes only add up this process's gradients.
    """

    model: LanguageModel
    world: World
    kind: str
    loss: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    local: Callable[[], AbstractContextManager[None]]

    def clip(self, largest: float) -> Tensor:
        """Scale the gradients to a global norm of at most largest; returns the norm before, not waiting for the GPU."""
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), largest)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm


def replicate(model: LanguageModel, world: World, train: TrainPart) -> Replica:
    """Put a model, the same on every process, where train.parallel wants it."""
    kind = _kind(model, world, train)
    if kind == "fsdp":
        return _shards(model, world)
    model.to(world.device)
    return _copies(model, world) if kind == "ddp" else Replica(model, world, kind, _Loss(model), nullcontext)


def _kind(model: nn.Module, world: World, train: TrainPart) -> str:
    if world.size == 1:
        return "single"
    if train.parallel != "auto":
        return train.parallel
    state = BYTES * sum(parameter.numel() for parameter in model.parameters())
    return "fsdp" if world.device.type == "cuda" and state > _memory(world.device) / 2 else "ddp"


def _memory(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).total_memory


def _blocks(model: nn.Module) -> list[nn.Module]:
    """The layers of a model: the members of its lists of modules."""
    return [block for module in model.modules() if isinstance(module, nn.ModuleList) for block in module]


def _copies(model: LanguageModel, world: World) -> Replica:
    copy = DistributedDataParallel(_Loss(model), gradient_as_bucket_view=True)
    return Replica(model, world, "ddp", copy, copy.no_sync)


class _Loss(nn.Module):
    """model.loss, looked up at every call, as a forward pass, which is what DDP watches."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids_BT: Tensor, targets_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        return self.model.loss(ids_BT, targets_BT, mask_BT)


def _shards(model: LanguageModel, world: World) -> Replica:
    mesh = torch.distributed.device_mesh.init_device_mesh(world.device.type, (world.size,))
    for block in _blocks(model):
        fully_shard(block, mesh=mesh)
    root = fully_shard(model, mesh=mesh)
    # A block returns the end of its states, a view; nothing works in place on it.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")
    register_fsdp_forward_method(model, "loss")
    return Replica(model, world, "fsdp", model.loss, lambda: _without_reduction(root))


@contextmanager
def _without_reduction(root: FSDPModule) -> Iterator[None]:
    root.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        root.set_requires_gradient_sync(True)

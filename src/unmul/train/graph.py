"""The forward and backward passes of a step as one CUDA graph: a small model's step is mostly launches.

Same contract as the function that it records; compared in tests/train/test_graph.py.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from unmul.data import Batch

__all__ = ["Recorded"]

Passes = Callable[[Sequence[Batch]], Tensor]


class Recorded:
    """Passes over micro-batches that leave gradients in the parameters, replayed instead of launched one by one.

    The first call runs as it is and compiles kernels, the second one records. Afterwards gradients lie in memory of
    the graph: they are handed out again after every replay, however the caller has dropped them.

    Args:
        passes: from micro-batches on a GPU, always of the same shapes, to their loss []; it must not wait for the GPU.
    """

    def __init__(self, passes: Passes, parameters: Iterable[nn.Parameter]) -> None:
        self._passes, self._parameters = passes, list(parameters)
        self._calls = 0
        self._graph = torch.cuda.CUDAGraph()
        self._inputs: list[Batch] = []
        self._gradients: list[Tensor | None] = []
        self._loss = torch.empty(0)

    def __call__(self, batches: Sequence[Batch]) -> Tensor:
        self._calls += 1
        if self._calls == 1:
            return self._passes(batches)
        if self._calls == 2:
            self._record(batches)
        for static, batch in zip(self._inputs, batches, strict=True):
            _copy(static, batch)
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._loss

    def _record(self, batches: Sequence[Batch]) -> None:
        for parameter in self._parameters:
            parameter.grad = None  # so that the graph writes them, where it would else add to them
        gc.collect()
        torch.cuda.empty_cache()  # what the first step held: the graph has memory of its own
        self._inputs = [Batch(*(None if part is None else part.clone() for part in batch)) for batch in batches]
        with torch.cuda.graph(self._graph):
            self._loss = self._passes(self._inputs)
        self._gradients = [parameter.grad for parameter in self._parameters]


def _copy(static: Batch, batch: Batch) -> None:
    for target, part in zip(static, batch, strict=True):
        if target is not None:
            target.copy_(part, non_blocking=True)

"""A fence around the tensors of every launch in Triton's interpreter: what a GPU punishes now and then, or never.

No program may touch a byte outside of the tensors that its kernel was given, nor meet another one at an element that
either of them writes: here programs come one after another, on a GPU in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

__all__ = ["fence"]

NOBODY, SEVERAL = -1, -2  # beside the numbers of programs


class _Storage:
    """Which program of a launch wrote, and which read, the element that begins at each byte of a storage."""

    def __init__(self, size: int) -> None:
        self._writers, self._readers = (np.full(size, NOBODY, np.int32) for _ in range(2))

    def read(self, places: np.ndarray, program: int) -> None:
        _forbid(f"program {program} reads what was written by program", self._writers[places], program)
        before = self._readers[places]
        self._readers[places] = np.where(np.isin(before, (NOBODY, program)), program, SEVERAL)

    def write(self, places: np.ndarray, program: int) -> None:
        _forbid(f"program {program} writes what was written by program", self._writers[places], program)
        _forbid(f"program {program} writes what was read by program", self._readers[places], program)
        self._writers[places] = program


def _forbid(deed: str, owners: np.ndarray, program: int) -> None:
    others = owners[~np.isin(owners, (NOBODY, program))]
    assert not others.size, f"{deed} {'several' if others[0] == SEVERAL else others[0]} of the same launch"


class _Launch:
    """The tensors of a launch. Views of one storage share its elements, but an access keeps to one of the views."""

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        self._spans: list[tuple[int, int]] = []
        self._storages: dict[int, _Storage] = {}
        for tensor in tensors:
            strides = zip(tensor.shape, tensor.stride(), strict=True)
            elements = 1 + sum((size - 1) * stride for size, stride in strides) if tensor.numel() else 0
            self._spans.append((tensor.data_ptr(), tensor.data_ptr() + elements * tensor.element_size()))
            storage = tensor.untyped_storage()
            self._storages[storage.data_ptr()] = _Storage(storage.nbytes())

    def find(self, addresses: np.ndarray, itemsize: int) -> tuple[_Storage, np.ndarray]:
        """The storage of the one tensor that has all of these addresses, and their places in it."""
        low, high = int(addresses.min()), int(addresses.max()) + itemsize
        if not any(start <= low and high <= end for start, end in self._spans):
            start, end = min(self._spans, key=lambda span: max(span[0] - low, high - span[1]))
            raise AssertionError(f"bytes {low - start} to {high - start} of a tensor of {end - start} are touched")
        begin = max(begin for begin in self._storages if begin <= low)
        return self._storages[begin], (addresses - np.uint64(begin)).astype(np.intp)


def fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watch every load and store from now on; a fault ends the kernel with an InterpreterError that says which."""
    from triton.runtime import interpreter

    builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
    begin, load, store = executor._init_args_hst, builder.create_masked_load, builder.create_masked_store
    launch = _Launch(())

    def watched_begin(self: Any, arguments: Any, named: Any) -> Any:
        nonlocal launch
        launch = _Launch(_tensors((*arguments, *named.values())))
        return begin(self, arguments, named)

    def watched_load(self: Any, pointers: Any, mask: Any, *rest: Any, **options: Any) -> Any:
        for storage, places in _touched(launch, pointers, mask):
            storage.read(places, _program(self))
        return load(self, pointers, mask, *rest, **options)

    def watched_store(self: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        for storage, places in _touched(launch, pointers, mask):
            storage.write(places, _program(self))
        return store(self, pointers, value, mask, *rest)

    monkeypatch.setattr(executor, "_init_args_hst", watched_begin)
    monkeypatch.setattr(builder, "create_masked_load", watched_load)
    monkeypatch.setattr(builder, "create_masked_store", watched_store)


def _tensors(arguments: Iterable[Any]) -> Iterator[torch.Tensor]:
    for argument in arguments:
        tensor = getattr(argument, "base", argument)  # of a descriptor
        if isinstance(tensor, torch.Tensor):
            yield tensor


def _touched(launch: _Launch, pointers: Any, mask: Any) -> Iterator[tuple[_Storage, np.ndarray]]:
    """Where the mask lets an access through: at one place, or nowhere."""
    addresses = pointers.data[np.asarray(mask.data).astype(bool)]
    if addresses.size:
        yield launch.find(addresses, pointers.get_element_ty().primitive_bitwidth // 8)


def _program(builder: Any) -> int:
    return int(np.ravel_multi_index(builder.grid_idx, builder.grid_dim))

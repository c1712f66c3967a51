"""Which implementation of an operation runs: decided once for each, here, and told to whoever asks."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

from unmul.errors import UsageError

__all__ = ["choose", "implementations"]

P = ParamSpec("P")
R = TypeVar("R")

_chosen: dict[str, str] = {}


def choose(naive: Callable[P, R]) -> Callable[P, R]:
    """The operation behind a naive function: its Triton twin for CUDA tensors, the function itself elsewhere.

    The twin has the same name in the module `triton` of the same folder; the device of the first argument, or of the
    first tensor in it, decides. UNMUL_OPS=naive or UNMUL_OPS=triton (on a CPU: in Triton's interpreter) takes that one.
    """
    mode = _mode()
    _chosen[naive.__name__] = mode
    if mode == "naive":
        return naive
    twin: Callable[P, R] = getattr(
        importlib.import_module(f"{naive.__module__.rpartition('.')[0]}.triton"), naive.__name__
    )
    if "UNMUL_OPS" in os.environ:
        return twin

    @functools.wraps(naive)
    def operation(*args: P.args, **kwargs: P.kwargs) -> R:
        first: Any = args[0]
        tensor: torch.Tensor = first if isinstance(first, torch.Tensor) else first[0]
        return (twin if tensor.is_cuda else naive)(*args, **kwargs)

    return operation


def implementations() -> dict[str, str]:
    """For every operation imported so far, "naive" or "triton" (which serves CUDA tensors)."""
    return dict(sorted(_chosen.items()))


def _mode() -> str:
    forced = os.environ.get("UNMUL_OPS")
    if forced not in (None, "naive", "triton"):
        raise UsageError(f"UNMUL_OPS is {forced!r}", "set it to naive or triton, or leave it unset")
    if forced:
        return forced
    return "triton" if torch.cuda.is_available() and importlib.util.find_spec("triton") else "naive"

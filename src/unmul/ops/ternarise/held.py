"""Codes that are kept while weights do not change, so that several micro-batches share one ternarising."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING

import torch

from unmul.ops.ternarise import ternarise

if TYPE_CHECKING:
    from unmul.ops.bitlinear import Projection

__all__ = ["Codes", "hold_codes", "latent_operand", "same_codes", "ternary_operand"]

Operand = tuple[torch.Tensor, torch.Tensor]
Codes = dict[tuple[int, ...], tuple[Sequence[torch.Tensor], Operand]]
_held: ContextVar[Codes | None] = ContextVar("held", default=None)


def hold_codes(codes: Codes | None = None) -> AbstractContextManager[None]:
    """Promise that no weight changes inside: each is ternarised once, however many forward passes there are.

    For gradient accumulation and evaluation. A promise rather than a look at the weights, because sharding moves
    weights in and out of memory without telling their version counters.

    Args:
        codes: a dict of the caller's, empty at first, that keeps the promise from one block to the next.
    """
    return _holding({} if codes is None else codes)


def same_codes() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The context_fn of torch.utils.checkpoint: what is computed again takes the codes that are held now.

    On a GPU it is computed in a thread of the backward pass, which does not inherit what is held here.
    """
    return nullcontext(), _holding(_held.get())


@contextmanager
def _holding(codes: Codes | None) -> Iterator[None]:
    token = _held.set(codes)
    try:
        yield
    finally:
        _held.reset(token)


def ternary_operand(projections: Sequence[Projection]) -> Operand:
    """Codes [G, N, K] int8 and scales [G] of projections of one shape, all latent or all fixed."""
    weights = [projection.weight for projection in projections]
    fixed = [projection.scale for projection in projections if projection.scale is not None]
    return (torch.stack(weights), torch.stack(fixed)) if fixed else latent_operand(weights)


def latent_operand(weights: Sequence[torch.Tensor]) -> Operand:
    """Codes [G, N, K] int8 and scales [G] of latent weights [N, K], those that are held where they are."""
    held = None if torch.compiler.is_compiling() else _held.get()
    if held is None:
        return ternarise(weights)
    key = tuple(id(weight) for weight in weights)
    if key not in held:
        held[key] = weights, ternarise(weights)  # the weights too: an id is only unique while its object lives
    return held[key][1]

"""Batches of token windows in a seeded order: the position of a run is one number, the batch that it reads next."""

# B windows of a batch that this process gets, T context

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from unmul.data.shards import Tokens
from unmul.errors import ConfigError, DataError

__all__ = ["START", "TOKEN", "Batch", "Batches"]

TOKEN, START = np.int8(1), np.int8(2)  # values of a mask, as ops.gated_scan reads them


class Batch(NamedTuple):
    """Windows of text for one call of the model: NumPy arrays from Batches, or tensors on a device.

    Shapes: tokens [B, T + 1] int64, inputs are the first T columns and targets the last T; mask [B, T] int8 for the
    inputs, START where a document begins and TOKEN elsewhere, or None where documents are not kept apart.
    """

    tokens: Any
    mask: Any | None


class Batches:
    """Random access to the batches of an endless, shuffled reading of some shards.

    An epoch reads every window once, in an order drawn from the seed and the number of the epoch; the cuts between
    windows move from epoch to epoch. Nothing is drawn at run time, so batch k is the same in every run that asks.

    Args:
        batch: windows a batch, over all processes together.
        context: tokens of a window that are read; each predicts the next one.
        seed: of the order.
        end: id of the token that begins and ends documents, to keep them apart; None reads on through their borders.
        rank: which of ranks processes this is; it gets batch / ranks consecutive rows of the same batch.
    """

    def __init__(
        self,
        shards: Sequence[Tokens],
        *,
        batch: int,
        context: int,
        seed: int,
        end: int | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if batch % ranks:
            raise ConfigError(
                f"train.batch {batch} cannot be shared evenly by {ranks} processes",
                f"make it a multiple of {ranks}, or start fewer processes",
            )
        self._shards, self._batch, self._context, self._seed, self._end = shards, batch, context, seed, end
        self._rows = range(batch)[rank * batch // ranks : (rank + 1) * batch // ranks]
        self._counts = np.array([_windows(len(tokens), context) for tokens in shards])
        self._first = np.cumsum(self._counts) - self._counts
        self.per_epoch = int(self._counts.sum()) // batch
        if not self.per_epoch:
            raise DataError(
                f"the text gives {sum(self._counts)} windows of {context} tokens, train.batch asks for {batch} at once",
                "give more text, or set a smaller train.batch or train.context",
            )
        self._order = lru_cache(maxsize=2)(self._shuffle)

    def __getitem__(self, index: int) -> Batch:
        """This process's rows of batch number index."""
        epoch, place = divmod(index, self.per_epoch)
        first = place * self._batch
        starts, order = self._order(epoch)
        rows = order[first + self._rows.start : first + self._rows.stop]
        tokens = np.stack([self._window(int(row), starts) for row in rows]).astype(np.int64)
        return Batch(tokens, None if self._end is None else np.where(tokens[:, :-1] == self._end, START, TOKEN))

    def _window(self, row: int, starts: npt.NDArray[np.int64]) -> Tokens:
        shard = int(np.searchsorted(self._first, row, "right")) - 1
        start = starts[shard] + (row - self._first[shard]) * self._context
        return self._shards[shard][start : start + self._context + 1]

    def _shuffle(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where the first window of every shard starts in this epoch, and the order of all windows."""
        random = np.random.default_rng([self._seed, epoch])
        lengths = np.array([len(tokens) for tokens in self._shards])
        starts = random.integers(lengths - self._counts * self._context)
        return starts, random.permutation(int(self._counts.sum()))


def _windows(tokens: int, context: int) -> int:
    # One window less than fits leaves room to move the cuts; a text of a single window cannot spare it.
    return max((tokens - context) // context, int(tokens > context))

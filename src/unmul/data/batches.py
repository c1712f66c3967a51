"""Batches of token windows in a seeded order: the position of a run is one number, the batch that it reads next."""

# B windows of a batch that this process gets, T context

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from unmul.data.shards import Tokens
from unmul.errors import ConfigError, DataError

__all__ = ["Batches"]


class Batches:
    """Random access to the batches of an endless, shuffled reading of some shards.

    An epoch reads every window once, in an order drawn from the seed and the number of the epoch; the cuts between
    windows move from epoch to epoch. Nothing is drawn at run time, so batch k is the same in every run that asks.

    Args:
        batch: windows a batch, over all processes together.
        context: tokens of a window that are read; each predicts the next one.
        seed: of the order.
        rank: which of ranks processes this is; it gets batch / ranks consecutive rows of the same batch.
    """

    def __init__(
        self, shards: Sequence[Tokens], *, batch: int, context: int, seed: int, rank: int = 0, ranks: int = 1
    ) -> None:
        if batch % ranks:
            raise ConfigError(
                f"train.batch {batch} cannot be shared evenly by {ranks} processes",
                f"make it a multiple of {ranks}, or start fewer processes",
            )
        self._shards, self._batch, self._context, self._seed = shards, batch, context, seed
        self._rows = range(batch)[rank * batch // ranks : (rank + 1) * batch // ranks]
        self._counts = [_windows(len(tokens), context) for tokens in shards]
        self.per_epoch = sum(self._counts) // batch
        if not self.per_epoch:
            raise DataError(
                f"the text gives {sum(self._counts)} windows of {context} tokens, train.batch asks for {batch} at once",
                "give more text, or set a smaller train.batch or train.context",
            )
        self._order = lru_cache(maxsize=2)(self._shuffle)

    def __getitem__(self, index: int) -> npt.NDArray[np.int64]:
        """This process's rows of batch number index [B, T + 1]: inputs are the first T columns, targets the last T."""
        epoch, place = divmod(index, self.per_epoch)
        first = place * self._batch
        rows = self._order(epoch)[first + self._rows.start : first + self._rows.stop]
        return np.stack([self._shards[shard][start : start + self._context + 1] for shard, start in rows]).astype(
            np.int64
        )

    def _shuffle(self, epoch: int) -> npt.NDArray[np.int64]:
        """Shard and first token of every window, in this epoch's order [windows, 2]."""
        random = np.random.default_rng([self._seed, epoch])
        places = []
        for shard, count in enumerate(self._counts):
            slack = len(self._shards[shard]) - 1 - count * self._context
            starts = random.integers(slack + 1) + np.arange(count) * self._context
            places.append(np.stack([np.full(count, shard), starts], 1))
        return random.permutation(np.concatenate(places))


def _windows(tokens: int, context: int) -> int:
    # One window less than fits leaves room to move the cuts; a text of a single window cannot spare it.
    return max((tokens - context) // context, int(tokens > context))

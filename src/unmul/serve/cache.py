"""States by content: whoever comes with the same first tokens goes on from the state that they left.

A state depends on the tokens before it and on nothing else, so its key is their hash. Nothing is ever invalid; the
least recently used goes when the budget is full.
"""

# L layers, D width

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np

from unmul.engine.base import FloatArray

__all__ = ["StateCache"]


class StateCache:
    """States [L, D] after token sequences, at most `budget` bytes of them."""

    def __init__(self, budget: int) -> None:
        self.bytes = 0
        self._budget = budget
        self._states: OrderedDict[bytes, tuple[int, FloatArray]] = OrderedDict()
        self._lengths: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._states)

    def put(self, ids: Sequence[int], state: FloatArray) -> None:
        """Keep a copy of the state after these tokens."""
        if not ids or state.nbytes > self._budget:
            return
        (key,) = _keys(ids, [len(ids)])
        if key in self._states:
            self._states.move_to_end(key)
            return
        self._states[key] = len(ids), state.copy()
        self._lengths[len(ids)] += 1
        self.bytes += state.nbytes
        while self.bytes > self._budget:
            self._forget_oldest()

    def longest(self, ids: Sequence[int], beyond: int = 0) -> tuple[int, FloatArray] | None:
        """The longest known beginning of ids with more than `beyond` tokens: its length and a copy of its state."""
        lengths = sorted(length for length in self._lengths if beyond < length <= len(ids))
        known = [key for key in _keys(ids, lengths) if key in self._states]
        if not known:
            return None
        self._states.move_to_end(known[-1])
        length, state = self._states[known[-1]]
        return length, state.copy()

    def _forget_oldest(self) -> None:
        _, (length, state) = self._states.popitem(last=False)
        self.bytes -= state.nbytes
        self._lengths[length] -= 1
        if not self._lengths[length]:
            del self._lengths[length]


def _keys(ids: Sequence[int], lengths: Sequence[int]) -> Iterator[bytes]:
    """Hashes of the beginnings of ids with these rising lengths, in one pass."""
    data, hasher, at = np.asarray(ids, np.uint32).data.cast("B"), blake2b(digest_size=16), 0
    for length in lengths:
        hasher.update(data[4 * at : 4 * length])
        at = length
        yield hasher.copy().digest()

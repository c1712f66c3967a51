"""States by content: whoever comes with the same first tokens goes on from the state that they left.

A state depends on the tokens before it and on nothing else, so its key is their hash. Nothing is ever invalid; the
least recently used goes when the budget is full.
"""

# L layers, E width of the token mixer

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from unmul.engine.base import FloatArray

__all__ = ["StateCache", "Trail", "key_of"]


class Trail:
    """Tokens, and the keys of their beginnings; each token is hashed once, so lengths must not fall."""

    def __init__(self, ids: Sequence[int]) -> None:
        self._data = np.asarray(ids, np.uint32).data.cast("B")
        self._hasher = blake2b(digest_size=16)
        self._at = 0

    def key(self, length: int) -> bytes:
        """The key of the first `length` tokens."""
        self._hasher.update(self._data[4 * self._at : 4 * length])
        self._at = length
        return self._hasher.digest()


def key_of(ids: Sequence[int]) -> bytes:
    """The key of a sequence of tokens."""
    return Trail(ids).key(len(ids))


class StateCache:
    """States [L, E] after token sequences, at most `budget` bytes of them. States go in and come out as copies."""

    def __init__(self, budget: int) -> None:
        self.bytes = 0
        self._budget = budget
        self._states: OrderedDict[bytes, tuple[int, FloatArray]] = OrderedDict()
        self._lengths: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._states)

    def put(self, key: bytes, length: int, state: FloatArray) -> None:
        """Keep the state after the `length` tokens of that key."""
        if not length or state.nbytes > self._budget:
            return
        if key in self._states:
            self._states.move_to_end(key)
            return
        self._states[key] = length, state.copy()
        self._lengths[length] += 1
        self.bytes += state.nbytes
        while self.bytes > self._budget:
            self._forget_oldest()

    def get(self, key: bytes) -> FloatArray | None:
        """The state after the tokens of that key, if it is known."""
        if key not in self._states:
            return None
        self._states.move_to_end(key)
        return self._states[key][1].copy()

    def longest(self, ids: Sequence[int]) -> tuple[int, FloatArray] | None:
        """The longest beginning of ids that is known: its length and its state."""
        trail, known = Trail(ids), None
        for length in sorted(length for length in self._lengths if length <= len(ids)):
            key = trail.key(length)
            known = (length, key) if key in self._states else known
        state = known and self.get(known[1])
        return None if known is None or state is None else (known[0], state)

    def _forget_oldest(self) -> None:
        _, (length, state) = self._states.popitem(last=False)
        self.bytes -= state.nbytes
        self._lengths[length] -= 1
        if not self._lengths[length]:
            del self._lengths[length]

"""Contexts in memory, packed: beside a state of 4 kB every Python object weighs.

States stand in blocks of many, each in a slot; of each context there is one key, its name, and one small value: the
slot, and the tokens that the state lacks.
"""

# L layers, E width of the token mixer

from __future__ import annotations

import numpy as np

from unmul.engine.base import FloatArray
from unmul.serve.scheduler import Context

__all__ = ["HeldContexts"]

BLOCK_BYTES = 1 << 20  # of states that are laid out together; memory is taken when a slot is first written


class HeldContexts:
    """The `most` contexts that were used last, by name. Contexts go in and come out as copies; not for threads.

    Args:
        like: a state [L, E], for its shape.
    """

    def __init__(self, like: FloatArray, most: int) -> None:
        self._like, self._most = like, most
        self._per_block = max(1, BLOCK_BYTES // like.nbytes)
        self._blocks: list[FloatArray] = []
        self._entries: dict[str, bytes] = {}  # the least recently used first

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: str) -> Context | None:
        """A context, which then counts as used."""
        entry = self._entries.pop(name, None)
        if entry is None:
            return None
        self._entries[name] = entry
        slot, unread, unfinished = _unpacked(entry)
        return Context(self._state(slot).copy(), unread, unfinished)

    def put(self, name: str, context: Context) -> None:
        """Keep a context in place of the name's last one, or of the least recently used where all slots are taken."""
        slot = self._free_slot(name)
        self._state(slot)[:] = context.state
        self._entries[name] = _packed(slot, context)

    def _free_slot(self, name: str) -> int:
        if name not in self._entries and len(self._entries) < self._most:
            return len(self._entries)  # slots are filled in order and never emptied
        given_up = name if name in self._entries else next(iter(self._entries))
        return _unpacked(self._entries.pop(given_up))[0]

    def _state(self, slot: int) -> FloatArray:
        block, row = divmod(slot, self._per_block)
        if block == len(self._blocks):
            self._blocks.append(np.empty((self._per_block, *self._like.shape), self._like.dtype))
        return self._blocks[block][row]


def _packed(slot: int, context: Context) -> bytes:
    return np.array([slot, len(context.unread), *context.unread, *context.unfinished], np.uint32).tobytes()


def _unpacked(entry: bytes) -> tuple[int, list[int], list[int]]:
    slot, unread, *tokens = np.frombuffer(entry, np.uint32).tolist()
    return slot, tokens[:unread], tokens[unread:]

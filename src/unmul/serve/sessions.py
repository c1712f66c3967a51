"""Conversations by name: the context of each is kept in memory, and in a folder where there is one.

A context is a few kilobytes whatever the text's length, so a session can be left for a week and goes on as if it had
never stopped. The requests of one session take turns.
"""

# L layers, D width

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from unmul.checkpoint.tensorfile import TensorFile, TensorSpec, write_tensors
from unmul.engine.base import FloatArray
from unmul.errors import CheckpointError, UsageError
from unmul.files import atomic_file
from unmul.runtime.state import check_state
from unmul.serve.held import HeldContexts
from unmul.serve.scheduler import Context

__all__ = ["Sessions", "read_context", "write_context"]

LOG = logging.getLogger("unmul.serve")
NAME = re.compile(r"[a-z0-9_-]{1,64}")  # no capitals: some file systems take A for a
SUFFIX = ".session"
TENSOR = "session"  # not "state": a session's state lacks the unread tokens, and no other reader may forget them
MODEL, UNREAD, UNFINISHED = "model", "unread", "unfinished"


def write_context(path: Path, context: Context, fingerprint: str) -> None:
    """Write a context whole or not at all, with the fingerprint of the model that made it."""
    specs = {TENSOR: TensorSpec(context.state.dtype, context.state.shape)}
    tokens = {UNREAD: json.dumps(context.unread), UNFINISHED: json.dumps(context.unfinished)}
    with atomic_file(path) as handle:
        write_tensors(handle, specs, lambda _: context.state, {MODEL: fingerprint, **tokens})


def read_context(path: Path, like: FloatArray, fingerprint: str) -> Context:
    """Read a context that this very model made; like gives the shape."""
    file = TensorFile(path)
    if TENSOR not in file:
        raise CheckpointError(f"{path} holds no session", "delete it, or give another session folder")
    if file.metadata.get(MODEL) != fingerprint:
        raise UsageError(f"the session {path.stem} was made by another model", "choose another name for a new one")
    unread, unfinished = (json.loads(file.metadata[name]) for name in (UNREAD, UNFINISHED))
    return Context(check_state(np.array(file[TENSOR]), like), unread, unfinished)


class Sessions:
    """Contexts by name, the least recently used forgotten, or left to the folder, when the budget is full.

    Args:
        like: a state of the model, for its shape.
        folder: where contexts survive a restart; None keeps them in memory only.
        budget: most bytes of contexts in memory.
        shared: other servers go on with the folder's sessions too: nothing is remembered, and a context is in the
            folder before its answer ends.
    """

    def __init__(
        self, like: FloatArray, fingerprint: str, *, folder: Path | None, budget: int, shared: bool = False
    ) -> None:
        self._like, self._fingerprint, self._folder = like, fingerprint, folder
        self._shared = shared and folder is not None
        self._held = HeldContexts(like, max(1, budget // like.nbytes))
        self._unsaved: dict[str, Context] = {}
        self._guard = threading.Lock()
        self._turns: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()  # who holds the turn or waits for it
        self._writer = ThreadPoolExecutor(1, "unmul-sessions")
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            if not shared:  # others may be writing theirs now
                _remove_leftovers(folder)

    def __len__(self) -> int:
        return len(self._held)

    async def take(self, name: str) -> Context | None:
        """Wait for the session's turn; its context, or None for a new one. Every take needs one release."""
        if not NAME.fullmatch(name):
            raise UsageError(f"session {name[:80]!r} is not a name", "choose 1 to 64 of a-z, 0-9, - and _")
        self._users[name] += 1
        turn = self._turns.setdefault(name, asyncio.Lock())
        try:
            await turn.acquire()
        except asyncio.CancelledError:
            self._leave(name)
            raise
        try:
            return await asyncio.to_thread(self.load, name)
        except BaseException:
            self.release(name)
            raise

    def release(self, name: str) -> None:
        """End the turn, on the event loop."""
        self._turns[name].release()
        self._leave(name)

    def _leave(self, name: str) -> None:
        self._users[name] -= 1
        if not self._users[name]:
            del self._users[name], self._turns[name]

    def load(self, name: str) -> Context | None:
        """The context of a session, from memory or the folder."""
        with self._guard:
            if held := self._held.get(name):
                return held
            if unsaved := self._unsaved.get(name):
                self._held.put(name, unsaved)
                return unsaved
        path = self._path(name)
        if path is None or not path.exists():
            return None
        return read_context(path, self._like, self._fingerprint)

    def keep(self, name: str, context: Context) -> None:
        """Remember a context now, and write it soon, from any thread; those of one session are written in order."""
        if self._shared:
            self._write(name, context)
            return
        with self._guard:
            self._held.put(name, context)
            if self._folder:
                self._unsaved[name] = context
        if self._folder:
            self._writer.submit(self._save, name, context)

    def close(self) -> None:
        """Wait until everything is written."""
        self._writer.shutdown()

    def _path(self, name: str) -> Path | None:
        return self._folder / f"{name}{SUFFIX}" if self._folder else None

    def _save(self, name: str, context: Context) -> None:
        if self._unsaved.get(name) is not context:  # a newer one waits behind
            return
        if not self._write(name, context):  # it stays in memory
            return
        with self._guard:
            if self._unsaved.get(name) is context:
                del self._unsaved[name]

    def _write(self, name: str, context: Context) -> bool:
        path = self._path(name)
        assert path is not None
        try:
            write_context(path, context, self._fingerprint)
        except CheckpointError as error:
            LOG.error("%s", error)
            return False
        return True


def _remove_leftovers(folder: Path) -> None:
    """What a killed server was writing."""
    for path in folder.glob(f".*{SUFFIX}.tmp-*"):
        path.unlink(missing_ok=True)

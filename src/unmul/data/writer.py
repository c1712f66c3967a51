"""Token files of one side of the text, written in large pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["SIZE", "Split", "SplitWriter", "id_type", "sizes_name"]

SHARD_TOKENS = 2**27  # a file is closed after the document that passes this: about 256 MB
PIECE = 2**20  # tokens written at once
SIZE = np.dtype("<u8")  # of a document in bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """One side of the text: its files, and the tokens (end tokens included) and documents in each."""

    files: tuple[str, ...]
    tokens: tuple[int, ...]
    documents: tuple[int, ...]


def id_type(vocab_size: int) -> np.dtype[Any]:
    """The smallest type that holds every id of a vocabulary, little-endian."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def sizes_name(name: str) -> str:
    """The file with the sizes of the documents of a token file."""
    return name.removesuffix(".bin") + ".sizes"


class SplitWriter:
    """Writes NAME-00000.bin, ... and beside each the sizes of its documents.

    Args:
        folder: where the files go.
        name: of the side.
        ids: type of the token ids.
        end: id that begins and ends documents.
    """

    def __init__(self, folder: Path, name: str, ids: np.dtype[Any], end: int) -> None:
        self._folder, self._name, self._type, self._end = folder, name, ids, end
        self._files: list[str] = []
        self._tokens: list[int] = []
        self._documents: list[int] = []
        self._ids: list[int] = []  # not written yet
        self._sizes: list[int] = []

    def add(self, ids: Sequence[int], size: int) -> None:
        """Append a document of size bytes."""
        if not self._files or self._tokens[-1] >= SHARD_TOKENS:
            self._begin_file()
        self._ids += [*ids, self._end]
        self._sizes.append(size)
        self._tokens[-1] += len(ids) + 1
        self._documents[-1] += 1
        if len(self._ids) >= PIECE:
            self._flush()

    def finish(self) -> Split:
        """Write what is left."""
        self._flush()
        return Split(files=tuple(self._files), tokens=tuple(self._tokens), documents=tuple(self._documents))

    def _begin_file(self) -> None:
        self._flush()
        self._files.append(f"{self._name}-{len(self._files):05}.bin")
        self._tokens.append(1)
        self._documents.append(0)
        self._ids.append(self._end)

    def _flush(self) -> None:
        if self._ids:
            self._append(self._files[-1], self._ids, self._type)
            self._append(sizes_name(self._files[-1]), self._sizes, SIZE)
            self._ids, self._sizes = [], []

    def _append(self, name: str, values: list[int], kind: np.dtype[Any]) -> None:
        with (self._folder / name).open("ab") as handle:
            handle.write(np.array(values, kind).tobytes())

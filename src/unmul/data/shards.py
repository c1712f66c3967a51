"""Token shards: a folder of token files that is made once from text and read through memory maps.

    index.json              format, key, vocabulary size, end token, type of an id, and for each side its files
    tokenizer.json          the vocabulary that the ids belong to
    train-00000.bin ...     little-endian ids of 16 or 32 bits: END doc END doc ... END, cut between documents
    train-00000.sizes ...   UTF-8 bytes of each of these documents, 64 bits
    validation-00000.bin    the same, of other documents

The key is a hash of the text, the vocabulary and the split: when one of them changes, the shards are remade.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise, tee
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from unmul.data.progress import Progress
from unmul.data.source import TRAIN, VALIDATION, Source
from unmul.data.tokenizer import (
    encode_all,
    end_id,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
    vocabulary_size,
)
from unmul.data.writer import SIZE, Split, SplitWriter, id_type, sizes_name
from unmul.errors import DataError
from unmul.files import atomic_folder, write_text

__all__ = ["Shards", "Tokens", "open_shards"]

FORMAT = 2
INDEX = "index.json"

Tokens = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shards:
    """An opened folder of shards.

    Args:
        key: what identifies text, vocabulary and split.
        vocab_size: rows that an embedding needs.
        end: id of the token that begins and ends every document.
        ids: type of the token ids.
    """

    folder: Path
    key: str
    tokenizer: Tokenizer
    vocab_size: int
    end: int
    ids: np.dtype[Any]
    train: Split
    validation: Split

    def read(self, split: Split) -> list[Tokens]:
        """The token files of a split as read-only memory maps."""
        return [self._map(name, self.ids, tokens) for name, tokens in zip(split.files, split.tokens, strict=True)]

    def documents(self, split: Split) -> Iterator[tuple[list[int], int]]:
        """Token ids and UTF-8 bytes of each document of a split."""
        for tokens, name, count in zip(self.read(split), split.files, split.documents, strict=True):
            sizes = self._map(sizes_name(name), SIZE, count)
            ends = np.flatnonzero(tokens == self.end)
            for (start, stop), size in zip(pairwise(ends), sizes, strict=True):
                yield tokens[start + 1 : stop].tolist(), int(size)

    def _map(self, name: str, kind: np.dtype[Any], count: int) -> Tokens:
        path = self.folder / name
        if not path.is_file() or path.stat().st_size != count * kind.itemsize:
            raise DataError(f"{path} is missing or cut short", f"delete {self.folder}: it will be made again")
        return np.memmap(path, kind, "r")


def open_shards(folder: Path, source: Source | None, *, lines: bool = False) -> tuple[Shards, bool]:
    """The shards of a source, and whether they had to be made (or made again, because the source changed).

    Args:
        source: None for shards that were made elsewhere, of a text that is not here.
        lines: say how the making goes in plain lines even on a terminal.
    """
    index = _read_index(folder)
    if source is None:
        if index is None:
            raise DataError(f"{folder} has no token shards", "give data.text, or copy shards there")
        return _open(folder, index), False
    key = source.key()
    made = index is None or index.get("key") != key
    if made:
        _make(folder, source, key, Progress(lines=lines))
        index = _read_index(folder)
    assert index is not None
    return _open(folder, index), made


def _read_index(folder: Path) -> dict[str, Any] | None:
    """The index of a folder; None where there is none yet, or an older format's."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        index = dict(json.loads((folder / INDEX).read_text("utf-8")))
        bytes.fromhex(index["key"])  # a folder of another program is not ours to replace
        return index if index["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{folder} holds something else than token shards", "move it, or set data.shards") from None


def _open(folder: Path, index: dict[str, Any]) -> Shards:
    try:
        train, validation = (
            Split(**{field: tuple(each) for field, each in index[side].items()}) for side in (TRAIN, VALIDATION)
        )
        return Shards(
            folder=folder,
            key=index["key"],
            tokenizer=load_tokenizer(folder / "tokenizer.json"),
            vocab_size=index["vocab_size"],
            end=index["end"],
            ids=np.dtype(index["dtype"]),
            train=train,
            validation=validation,
        )
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"{folder / INDEX} is damaged", f"delete {folder}: it will be made again") from None


def _make(folder: Path, source: Source, key: str, progress: Progress) -> None:
    _require_documents(source)
    with _terminable(), progress, atomic_folder(folder) as temporary:
        tokenizer, end = _tokenizer(source, progress)
        ids = id_type(vocabulary_size(tokenizer))
        splits = _write(temporary, source, tokenizer, ids, end, progress)
        save_tokenizer(tokenizer, temporary, end)
        index = {"format": FORMAT, "key": key, "vocab_size": vocabulary_size(tokenizer), "end": end, "dtype": ids.str}
        write_text(temporary / INDEX, json.dumps({**index, **{side: asdict(split) for side, split in splits.items()}}))


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the block by an exception, as Ctrl-C does, so that what it was writing is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _require_documents(source: Source) -> None:
    """Refuse sides without text before the long work begins; what a share leaves is only known after it."""
    for field, documents in (("text", source.text), ("validation", source.validation)):
        if not isinstance(documents, float) and not any(text.strip() for text in documents.texts()):
            raise DataError(f"data.{field}: {documents} has no text", "give at least one document that is not empty")


def _tokenizer(source: Source, progress: Progress) -> tuple[Tokenizer, int]:
    """The tokenizer and the id of its end token."""
    if source.tokenizer:
        tokenizer = load_tokenizer(source.tokenizer)
        return tokenizer, end_id(tokenizer, source.end_token)
    progress.say(f"learning a vocabulary of {source.vocab_size:,} entries")
    tokenizer = train_tokenizer((text for side, text in source.documents() if side == TRAIN), source.vocab_size)
    return tokenizer, end_id(tokenizer)


def _write(
    folder: Path, source: Source, tokenizer: Tokenizer, ids: np.dtype[Any], end: int, progress: Progress
) -> dict[str, Split]:
    writers = {side: SplitWriter(folder, side, ids, end) for side in (TRAIN, VALIDATION)}
    documents, same = tee(progress.kept(source.documents()))
    encoded = encode_all(tokenizer, (text for _, text in same))
    for (side, _), (tokens, size) in zip(documents, encoded, strict=True):
        writers[side].add(tokens, size)
        progress.add(len(tokens) + 1)
    splits = {side: writer.finish() for side, writer in writers.items()}
    for side, split in splits.items():
        if not split.files:
            raise DataError(f"data.validation {source.validation} leaves no {side} text", "choose another share")
    return splits

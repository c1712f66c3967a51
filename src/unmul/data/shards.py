"""Token shards: a folder of uint16 files that is made once from text and read through memory maps.

    index.json            format, key, vocabulary size, and for each split its files, tokens, documents and bytes
    tokenizer.json        the vocabulary that the ids belong to
    train-00000.bin ...   little-endian uint16 ids: END doc END doc ... END, cut between documents
    validation-00000.bin  the same, of other documents

The key is a hash of the text files, the vocabulary and the split: when one of them changes, the shards are remade.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from unmul.data.text import fingerprint, read_documents
from unmul.data.tokenizer import encode_all, end_id, load_tokenizer, save_tokenizer, train_tokenizer
from unmul.errors import DataError
from unmul.files import atomic_folder, write_text

__all__ = ["Shards", "Source", "Split", "Tokens", "open_shards"]

FORMAT = 1
INDEX = "index.json"
ID = np.dtype("<u2")
SHARD_TOKENS = 2**27  # a file is closed after the document that passes this: about 256 MB

Tokens = npt.NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What shards are made of.

    Args:
        text: training files.
        validation: files kept apart, or the share of the training documents that is.
        vocab_size: entries of the vocabulary to learn; ignored with a tokenizer.
        tokenizer: an existing tokenizer.json.
    """

    text: tuple[Path, ...]
    validation: tuple[Path, ...] | float
    vocab_size: int
    tokenizer: Path | None = None

    def key(self) -> str:
        """SHA-256 of everything that decides the content of the shards."""
        vocabulary = fingerprint([self.tokenizer]) if self.tokenizer else self.vocab_size
        held_out = self.validation if isinstance(self.validation, float) else fingerprint(self.validation)
        parts = [FORMAT, fingerprint(self.text), held_out, vocabulary]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def train_documents(self) -> Iterator[str]:
        """Documents to learn from."""
        return (text for text in read_documents(self.text) if not self._held_out(text))

    def validation_documents(self) -> Iterator[str]:
        """Documents that training never sees."""
        if isinstance(self.validation, tuple):
            return read_documents(self.validation)
        return (text for text in read_documents(self.text) if self._held_out(text))

    def _held_out(self, text: str) -> bool:
        # By its own hash: the same document lands on the same side in every copy and every order.
        if isinstance(self.validation, tuple):
            return False
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) < self.validation * 2**64


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """One side of the text: its files, the tokens in each (end tokens included), and the bytes of each document."""

    files: tuple[str, ...]
    tokens: tuple[int, ...]
    document_bytes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shards:
    """An opened folder of shards."""

    folder: Path
    key: str
    tokenizer: Tokenizer
    train: Split
    validation: Split

    def read(self, split: Split) -> list[Tokens]:
        """The token files of a split as read-only memory maps."""
        return [self._map(name, tokens) for name, tokens in zip(split.files, split.tokens, strict=True)]

    def documents(self, split: Split) -> Iterator[tuple[list[int], int]]:
        """Token ids and UTF-8 bytes of each document of a split."""
        sizes = iter(split.document_bytes)
        end = end_id(self.tokenizer)
        for tokens in self.read(split):
            ends = np.flatnonzero(tokens == end)
            for start, stop in pairwise(ends):
                yield tokens[start + 1 : stop].tolist(), next(sizes)

    def _map(self, name: str, tokens: int) -> Tokens:
        path = self.folder / name
        if not path.is_file() or path.stat().st_size != tokens * ID.itemsize:
            raise DataError(f"{path} is missing or cut short", f"delete {self.folder}: it will be made again")
        return np.memmap(path, ID, "r")


def open_shards(folder: Path, source: Source) -> tuple[Shards, bool]:
    """The shards of a source, and whether they had to be made (or made again, because the source changed)."""
    key = source.key()
    index = _read_index(folder)
    made = index is None or index.get("key") != key
    if made:
        _make(folder, source, key)
        index = _read_index(folder)
    assert index is not None
    splits = {name: _split(folder, index, name) for name in ("train", "validation")}
    return Shards(folder=folder, key=key, tokenizer=load_tokenizer(folder / "tokenizer.json"), **splits), made


def _read_index(folder: Path) -> dict[str, Any] | None:
    if not folder.exists():
        return None
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
        assert index["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        if folder.is_dir() and not any(folder.iterdir()):
            return None
        raise DataError(f"{folder} holds something else than token shards", "move it, or set data.shards") from None
    return dict(index)


def _split(folder: Path, index: dict[str, Any], name: str) -> Split:
    try:
        return Split(**{field: tuple(values) for field, values in index[name].items()})
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"{folder / INDEX} is damaged", f"delete {folder}: it will be made again") from None


def _make(folder: Path, source: Source, key: str) -> None:
    _require_text(source.train_documents(), f"{', '.join(map(str, source.text))} has no training text")
    _require_text(source.validation_documents(), f"data.validation {source.validation!r} leaves no validation text")
    if source.tokenizer:
        tokenizer = load_tokenizer(source.tokenizer)
    else:
        tokenizer = train_tokenizer(source.train_documents(), source.vocab_size)
    with atomic_folder(folder) as temporary:
        save_tokenizer(tokenizer, temporary)
        train = _write(temporary, "train", tokenizer, source.train_documents())
        validation = _write(temporary, "validation", tokenizer, source.validation_documents())
        index = {"format": FORMAT, "key": key, "vocab_size": tokenizer.get_vocab_size()}
        write_text(temporary / INDEX, json.dumps({**index, "train": asdict(train), "validation": asdict(validation)}))


def _require_text(documents: Iterator[str], problem: str) -> None:
    if next(documents, None) is None:
        raise DataError(problem, "give files with at least one document on each side")


def _write(folder: Path, split: str, tokenizer: Tokenizer, documents: Iterable[str]) -> Split:
    files: list[str] = []
    tokens: list[int] = []
    sizes: list[int] = []
    end = end_id(tokenizer)
    encoded = encode_all(tokenizer, documents)
    for ids, size in encoded:
        if not files or tokens[-1] >= SHARD_TOKENS:
            files.append(f"{split}-{len(files):05}.bin")
            tokens.append(0)
            ids = [end, *ids]
        with (folder / files[-1]).open("ab") as handle:
            handle.write(np.array([*ids, end], ID).tobytes())
        tokens[-1] += len(ids) + 1
        sizes.append(size)
    return Split(files=tuple(files), tokens=tuple(tokens), document_bytes=tuple(sizes))

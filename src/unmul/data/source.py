"""Where documents come from: files by their suffix or a dataset, and which of them training never sees."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from unmul.data.compressed import SUFFIXES, fingerprint
from unmul.data.dataset import Dataset
from unmul.data.rows import read_jsonl, read_parquet
from unmul.data.text import read_text

__all__ = ["TRAIN", "VALIDATION", "Files", "Source", "kind_of", "read_documents"]

TRAIN, VALIDATION = "train", "validation"

KINDS = {".jsonl": "JSONL", ".json": "JSONL", ".parquet": "Parquet"}  # by suffix; all others are text


def kind_of(path: Path) -> str:
    """How a file is read: "JSONL", "Parquet" or "text"."""
    inner = path.with_suffix("") if path.suffix in SUFFIXES else path
    return KINDS.get(inner.suffix, "text")


def read_documents(paths: Iterable[Path], field: str = "text") -> Iterator[str]:
    """The documents of some files, one at a time; empty ones are left out."""
    return (text for text in Files(paths=tuple(paths), field=field).texts() if text.strip())


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Text, JSONL and Parquet files, plain or compressed.

    Args:
        field: of a JSONL or Parquet row, the one with the text.
    """

    paths: tuple[Path, ...]
    field: str = "text"

    def __str__(self) -> str:
        return ", ".join(map(str, self.paths))

    def key(self) -> str:
        """What identifies the text: the files' content and how it is read."""
        return repr((fingerprint(self.paths), [kind_of(path) for path in self.paths], self.field))

    def texts(self) -> Iterator[str]:
        """The text of every document, empty ones too."""
        for path in self.paths:
            yield from self._texts(path)

    def _texts(self, path: Path) -> Iterator[str]:
        match kind_of(path):
            case "JSONL":
                return read_jsonl(path, self.field)
            case "Parquet":
                return read_parquet(path, self.field)
        return read_text(path)


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What shards are made of.

    Args:
        text: what to learn from.
        validation: what is kept apart, or the share of the documents of text that is.
        vocab_size: entries of the vocabulary to learn; ignored with a tokenizer.
        tokenizer: an existing tokenizer.json.
        end_token: its token that begins and ends documents; None looks for a known one.
    """

    text: Files | Dataset
    validation: Files | Dataset | float
    vocab_size: int
    tokenizer: Path | None = None
    end_token: str | None = None

    def key(self) -> str:
        """SHA-256 of everything that decides the content of the shards."""
        vocabulary = [fingerprint([self.tokenizer]), self.end_token] if self.tokenizer else self.vocab_size
        held_out = self.validation if isinstance(self.validation, float) else self.validation.key()
        return hashlib.sha256(json.dumps([self.text.key(), held_out, vocabulary]).encode()).hexdigest()

    def documents(self) -> Iterator[tuple[str, str]]:
        """Side and text of every document, empty ones too, in one reading."""
        for text in self.text.texts():
            yield VALIDATION if self._held_out(text) else TRAIN, text
        if not isinstance(self.validation, float):
            for text in self.validation.texts():
                yield VALIDATION, text

    def _held_out(self, text: str) -> bool:
        # By its own hash: the same document lands on the same side in every copy and every order.
        if not isinstance(self.validation, float):
            return False
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) < self.validation * 2**64

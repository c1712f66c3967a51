"""A Hugging Face dataset as documents, streamed: nothing is downloaded whole, memory stays small."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmul.data.compressed import fingerprint
from unmul.data.rows import read_tables
from unmul.errors import DataError, MissingExtraError, UnmulError

__all__ = ["Dataset"]

ROWS = 1024  # read at once


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """One split of a dataset.

    Args:
        name: its name on the hub, or the path of a folder.
        config: which of its configurations, where it has several.
        split: which part of it.
        revision: commit, tag or branch on the hub; a commit makes a run repeatable for others.
        field: the column with the text.
    """

    name: str | Path
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    field: str = "text"

    def __str__(self) -> str:
        parts = (self.config, self.split, self.revision and f"at {self.revision}")
        return " ".join(["dataset", str(self.name), *(part for part in parts if part)])

    def key(self) -> str:
        """What identifies the text: a folder's files, or else the names alone; the hub is not asked."""
        content = _folder_fingerprint(self.name) if isinstance(self.name, Path) else self.name
        return repr((content, self.config, self.split, self.revision, self.field))

    def texts(self) -> Iterator[str]:
        """The text of every row, empty ones too."""
        try:
            tables = self._open().with_format("arrow").iter(ROWS)
            yield from read_tables(tables, self.field, str(self))
        except UnmulError:
            raise
        except Exception as error:  # the library raises many kinds for wrong names, networks and files
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"{self} cannot be read ({reason})", "check name, config, split and network") from None

    def _open(self) -> Any:
        try:
            import datasets
        except ModuleNotFoundError:
            raise MissingExtraError("datasets", "datasets") from None
        if isinstance(self.name, Path) and (self.name / "state.json").exists():  # by Dataset.save_to_disk
            if self.split != "train":
                raise ValueError("it was saved as one dataset with no splits")
            return datasets.load_from_disk(str(self.name))
        return datasets.load_dataset(
            str(self.name), self.config, split=self.split, revision=self.revision, streaming=True
        )


def _folder_fingerprint(folder: Path) -> str:
    """SHA-256 over names and content of a folder's files: names decide splits."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = "\n".join(str(path.relative_to(folder)) for path in files)
    return hashlib.sha256(names.encode() + fingerprint(files).encode()).hexdigest()

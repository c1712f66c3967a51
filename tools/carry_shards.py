"""Token shards in a few compressed files, for a machine without the text: whole documents, checked after unpacking.

    python tools/carry_shards.py pack runs/open-english/shards CARRIED [--parts 2] [--validation 0.2]
    python tools/carry_shards.py unpack CARRIED runs/open-english/shards

Each part is a fair sample: a hash of its tokens says which one a document belongs to, and whether the validation text
keeps it. Unpacking takes the parts that are there, one at least, so that they can be carried one by one. Train on them
with `--set data.text=[] --set data.shards=FOLDER`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unmul.data.shards import FORMAT, INDEX, Shards, open_shards
from unmul.data.source import TRAIN, VALIDATION
from unmul.data.writer import SIZE, Split, sizes_name
from unmul.errors import DataError, UnmulError
from unmul.files import atomic_folder, write_text

MANIFEST = "carried.json"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
# Ids of 16 bits stand at even bytes (lp, pb); the dictionary holds a whole part of 33 M of them.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 3, "lp": 1, "pb": 1, "dict_size": 2**26}]

Document = tuple[npt.NDArray[Any], int]  # token ids, UTF-8 bytes
Entry = dict[str, Any]


def pack(source: Path, target: Path, parts: int, share: float) -> None:
    """Write the parts of the training text, the share of the validation text, the tokenizer and the manifest."""
    shards, _ = open_shards(source, None)
    with atomic_folder(target) as temporary:
        entries = [
            write(
                temporary, shards, TRAIN, part, documents(shards, shards.train, lambda x, p=part: int(x * parts) == p)
            )
            for part in range(parts)
        ]
        kept = documents(shards, shards.validation, lambda x: x < share)
        entries.append(write(temporary, shards, VALIDATION, 0, kept))
        for name in TOKENIZER:
            shutil.copyfile(source / name, temporary / name)
        index = {"format": FORMAT, "key": shards.key, "vocab_size": shards.vocab_size, "end": shards.end}
        write_text(temporary / MANIFEST, json.dumps({**index, "dtype": shards.ids.str, "files": entries}, indent=1))
    for entry in entries:
        size = (target / f"{entry['name']}.xz").stat().st_size
        print(f"{entry['name']}.xz: {size:,} bytes, {entry['tokens']:,} tokens in {entry['documents']:,} documents")


def documents(shards: Shards, split: Split, wanted: Callable[[float], bool]) -> Iterator[Document]:
    """The documents of a split whose number from 0 to 1, a hash of their tokens, is wanted."""
    for ids, size in shards.documents(split):
        tokens = np.array(ids, shards.ids)
        if wanted(int.from_bytes(hashlib.sha256(tokens.tobytes()).digest()[:8]) / 2**64):
            yield tokens, size


def write(folder: Path, shards: Shards, side: str, number: int, chosen: Iterator[Document]) -> Entry:
    """Write one file: the ids as in a token file, then the documents' sizes; returns its entry of the manifest."""
    name, end = f"{side}-{number:05}", np.array([shards.end], shards.ids)
    tokens, sizes = [end], []
    for ids, size in chosen:
        tokens += [ids, end]
        sizes.append(size)
    if not sizes:
        raise DataError(f"{name} would have no document", "choose fewer parts, or more of the validation text")
    raw = np.concatenate(tokens).tobytes() + np.array(sizes, SIZE).tobytes()
    (folder / f"{name}.xz").write_bytes(lzma.compress(raw, lzma.FORMAT_XZ, filters=FILTERS))
    count = sum(map(len, tokens))
    return {"name": name, "tokens": count, "documents": len(sizes), "sha256": hashlib.sha256(raw).hexdigest()}


def unpack(source: Path, target: Path) -> None:
    """Write the shards of the files that are there; their key says which they are."""
    manifest = json.loads((source / MANIFEST).read_text("utf-8"))
    here = [entry for entry in manifest.pop("files") if (source / f"{entry['name']}.xz").is_file()]
    key = hashlib.sha256(json.dumps([manifest["key"], [entry["sha256"] for entry in here]]).encode()).hexdigest()
    with atomic_folder(target) as temporary:
        for entry in here:
            read(source, temporary, entry, np.dtype(manifest["dtype"]).itemsize)
        for name in TOKENIZER:
            shutil.copyfile(source / name, temporary / name)
        splits = {side: split(here, side) for side in (TRAIN, VALIDATION)}
        write_text(temporary / INDEX, json.dumps({**manifest, "key": key, **splits}))
    print(f"{target}: {sum(splits[TRAIN]['tokens']):,} tokens from {len(splits[TRAIN]['files'])} parts, all as packed")


def read(source: Path, target: Path, entry: Entry, width: int) -> None:
    """Unpack one file into a token file and its sizes."""
    try:
        raw = lzma.decompress((source / f"{entry['name']}.xz").read_bytes())
    except lzma.LZMAError:
        raw = b""
    if hashlib.sha256(raw).hexdigest() != entry["sha256"]:
        raise DataError(f"{source / entry['name']}.xz is not what was packed", "copy it again")
    cut = entry["tokens"] * width
    (target / f"{entry['name']}.bin").write_bytes(raw[:cut])
    (target / sizes_name(f"{entry['name']}.bin")).write_bytes(raw[cut:])


def split(entries: list[Entry], side: str) -> dict[str, list[Any]]:
    """What the index says of one side."""
    chosen = [entry for entry in entries if entry["name"].startswith(side)]
    if not chosen:
        raise DataError(f"no file of the {side} text is there", "carry one")
    files = [f"{entry['name']}.bin" for entry in chosen]
    return {"files": files, **{key: [entry[key] for entry in chosen] for key in ("tokens", "documents")}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["pack", "unpack"])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--parts", type=int, default=2)
    parser.add_argument("--validation", type=float, default=0.2, metavar="SHARE")
    options = parser.parse_args()
    if options.action == "pack":
        pack(options.source, options.target, options.parts, options.validation)
    else:
        unpack(options.source, options.target)


if __name__ == "__main__":
    try:
        main()
    except UnmulError as error:
        sys.exit(f"error: {error}")

"""Sources and licences of a recipe's training text, for a model card, from the MANIFEST.json beside the files.

    python tools/licences.py recipes/open-english.toml MANIFEST.json >> card.md
    python tools/licences.py recipes/open-english.toml MANIFEST.json --works WORKS.jsonl.xz

The second prints every work with its author, for the sources whose licence asks for attribution. A training file that
the manifest does not list, or with other content, is refused: nothing else may enter a model with this card.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unmul.data.compressed import open_lines
from unmul.errors import DataError, UnmulError
from unmul.train.recipe import load_recipe

ATTRIBUTION = "CC-BY"  # licences of this name ask to name works and authors


def main(words: list[str]) -> None:
    """Print the table, or the list of works."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--works", type=Path)
    arguments = parser.parse_args(words)
    manifest = json.loads(arguments.manifest.read_text("utf-8"))
    files = checked_files(load_recipe(arguments.recipe).data.text, arguments.manifest, manifest)
    lines = works(arguments.works, files, manifest) if arguments.works else table(files, manifest)
    print("\n".join(lines))


def checked_files(paths: tuple[Path, ...], place: Path, manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The manifest's entries of training files, by name; DataError for a file that is not the listed one."""
    found = {}
    root = place.resolve().parent
    for path in paths:
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else ""
        entry = manifest["files"].get(name)
        if entry is None or entry.get("split") != "train":
            raise DataError(f"{path} is no training file of {place}", "take it out of data.text")
        with path.open("rb") as handle:
            if hashlib.file_digest(handle, "sha256").hexdigest() != entry["sha256"]:
                raise DataError(f"{path} is not the file that {place} describes", "copy it again")
        found[name] = entry
    return found


def table(files: dict[str, dict[str, Any]], manifest: dict[str, Any]) -> Iterator[str]:
    """A row of Markdown for each source: what was used of it, its licence, where it comes from."""
    used: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for entry in files.values():
        for source, counts in entry["sources"].items():
            for key, count in counts.items():
                used[source][key] += count
    yield "| source | works | documents | bytes | licence | from |"
    yield "|---|---|---|---|---|---|"
    for source, counts in sorted(used.items(), key=lambda item: -item[1]["bytes"]):
        about = manifest["sources"][source]
        numbers = " | ".join(f"{counts[key]:,}" for key in ("works", "documents", "bytes"))
        yield f"| {source} | {numbers} | {about['licence']} | {origin(about)} |"
    yield ""
    documents, size = (sum(entry[key] for entry in files.values()) for key in ("documents", "raw_bytes"))
    yield f"In training: {documents:,} documents, {size:,} bytes in {len(files)} files."
    yield "Counts by source include the works that were kept apart for validation."


def origin(about: dict[str, Any]) -> str:
    """Repositories with the first digits of their commits."""
    commits = about.get("commits") or {about["repo"]: about["commit"]}
    return ", ".join(f"{name} {commit[:10]}" for name, commit in commits.items())


def works(path: Path, files: dict[str, dict[str, Any]], manifest: dict[str, Any]) -> Iterator[str]:
    """A line for each training work under a licence that asks for attribution."""
    shards = {name.removesuffix(".train.txt.xz") for name in files}
    for line in open_lines(path):
        work = json.loads(line)
        licence = manifest["sources"].get(work["id"].partition(":")[0], {}).get("licence", "")
        if work["shard"] in shards and work["split"] == "train" and licence.startswith(ATTRIBUTION):
            yield f"{work['title']}, {work['author']} ({work['id']})"


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UnmulError as error:
        sys.exit(f"error: {error}")

"""What a call on a borrowed machine needs around its work: the corpus out of carried parts, and what goes home.

Such a machine forgets everything but one folder, takes a few files along with each call and gives a few back
(README.md). Parts of the corpus that earlier calls brought are kept beside the shards.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

__all__ = ["add_arguments", "collect", "corpus", "plan_parser", "tarred"]

CARRY = Path(__file__).resolve().parents[2] / "tools" / "carry_shards.py"
LOGS = {".json", ".jsonl", ".txt"}  # by suffix, what tells of a run; weights stay


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--carried, --parts and --collect."""
    parser.add_argument("--carried", type=Path, help="folder with parts of the corpus (tools/carry_shards.py)")
    parser.add_argument("--parts", type=int, default=1, help="parts of the training text to wait for")
    parser.add_argument("--collect", type=Path, help="folder that gets the logs and results as one file each")


def plan_parser(description: str | None) -> argparse.ArgumentParser:
    """What every program that runs a plan is told."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time")
    add_arguments(parser)
    return parser


def corpus(carried: Path | None, parts: int, work: Path) -> list[str] | None:
    """The overrides that train on the parts carried now or before, unpacked to work/shards; empty where none ever was.

    None while fewer parts of the training text than that have come: they are kept, and nothing can begin.
    """
    kept, shards = work / "carried", work / "shards"
    if carried is None and not kept.exists():
        return []
    new = _keep(carried, kept) if carried else 0
    here = len(list(kept.glob("train-*.xz")))
    if here < parts:
        return print(f"{here} of {parts} parts of the corpus are here: carry the next one")
    if new or not shards.exists():
        subprocess.run([sys.executable, CARRY, "unpack", kept, shards], check=True)
    return ["data.text=[]", f"data.shards={shards.resolve()}"]


def _keep(carried: Path, kept: Path) -> int:
    """Copy what has not come before; how many files that is."""
    kept.mkdir(parents=True, exist_ok=True)
    new = [path for path in carried.iterdir() if not (kept / path.name).exists()]
    for path in new:
        shutil.copyfile(path, kept / path.name)
    return len(new)


def collect(runs: Path, target: Path | None) -> None:
    """Leave logs, answers and cards of all runs in target as one file named after their folder."""
    if target is None:
        return
    told = [path for path in sorted(runs.rglob("*")) if path.suffix in LOGS and not _apart(path.relative_to(runs))]
    tarred(runs, told, target / f"{runs.name}-logs.tar.xz")


def tarred(folder: Path, files: list[Path], target: Path) -> None:
    """One archive of files of a folder, under their names there; plain or compressed as its suffix says."""
    target.parent.mkdir(parents=True, exist_ok=True)
    kind = target.suffix.removeprefix(".")
    with tarfile.open(target, "w:xz" if kind == "xz" else "w") as archive:
        for path in files:
            archive.add(path, path.relative_to(folder))


def _apart(path: Path) -> bool:
    """Whether a file tells nothing of a run: corpus, vocabulary, state."""
    return bool({"carried", "shards", "resume"} & set(path.parts)) or path.name.startswith("tokenizer")

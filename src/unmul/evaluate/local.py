"""Benchmarks from local files: rows of JSONL become rows as the hub has them, for lm-eval's own task definitions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unmul.data.compressed import open_lines
from unmul.errors import DataError

__all__ = ["FORMATS", "Format", "find_file", "read_rows"]

Row = dict[str, Any]

# The last sentence of a HellaSwag context where it is left open: the published ctx_b.
OPEN_END = re.compile(r"^(?:(?P<before>.*[.!?][\"')]*) )?(?P<open>[^.!?]*[^.!?\"')])$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Format:
    """How the file of a task is found and read.

    Args:
        folder: of lm-eval's tasks, where the definition is.
        stem: name of the file up to the first dot.
        row: from a row of the file to one as lm-eval's task expects it; raises KeyError for a field that is missing.
        changes: of the task's own settings, where the file holds what a function of the task would make.
    """

    folder: str
    stem: str
    row: Callable[[Row], Row]
    changes: Mapping[str, Any] = field(default_factory=dict)


def find_file(folder: Path, name: str) -> Path:
    """The file of a task in a folder: STEM.SPLIT.jsonl, plain or compressed."""
    stem = FORMATS[name].stem
    found = sorted(path for path in folder.glob(f"{stem}.*") if ".jsonl" in path.suffixes)
    if len(found) != 1:
        problem = f"{len(found)} files {stem}.*jsonl*" if found else f"no {stem}.*jsonl*"
        raise DataError(f"{folder} has {problem} for task {name}", "give a folder with one; see docs/eval.md")
    return found[0]


def read_rows(path: Path, name: str) -> list[Row]:
    """The rows of a task's file, as lm-eval's task expects them."""
    rows = []
    for number, line in enumerate(open_lines(path), 1):
        try:
            rows.append(FORMATS[name].row(json.loads(line)))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            problem = f"{path} line {number} is no item of {name} ({type(error).__name__}: {error})"
            raise DataError(problem, "see docs/eval.md for the fields") from None
    if not rows:
        raise DataError(f"{path} is empty", "give at least one item")
    return rows


def _arc(row: Row) -> Row:
    return {"question": row["question"]} | _lettered(row)


def _openbookqa(row: Row) -> Row:
    return {"question_stem": row["question"]} | _lettered(row)


def _lettered(row: Row) -> Row:
    letters = [chr(ord("A") + index) for index in range(len(row["choices"]))]
    return {"choices": {"text": row["choices"], "label": letters}, "answerKey": letters[row["answer"]]}


def _hellaswag(row: Row) -> Row:
    return {"query": _capitalised(row["question"]), "choices": row["choices"], "label": str(row["answer"])}


def _capitalised(question: str) -> str:
    """lm-eval capitalises a context's open last sentence; the files have it in the published small letters."""
    label, colon, context = question.partition(": ")
    end = OPEN_END.match(context)
    if end is None:
        return question
    before = "" if end["before"] is None else end["before"] + " "
    return label + colon + before + end["open"].capitalize()


def _piqa(row: Row) -> Row:
    first, second = row["choices"]
    return {"goal": row["question"], "sol1": first, "sol2": second, "label": row["answer"]}


def _winogrande(row: Row) -> Row:
    # The file has the sentence up to the gap once for each option, so the gap comes first here.
    first, second = row["contexts"]
    options = {"option1": first, "option2": second}
    return {"sentence": f"_ {row['continuation']}", "answer": str(row["answer"] + 1)} | options


def _lambada(row: Row) -> Row:
    return {"text": row["text"]}


def _blimp(row: Row) -> Row:
    return {"UID": row["uid"], "sentence_good": row["good"], "sentence_bad": row["bad"]}


FORMATS = {
    "arc_easy": Format("arc", "arc_easy", _arc),
    "arc_challenge": Format("arc", "arc_challenge", _arc),
    "hellaswag": Format("hellaswag", "hellaswag", _hellaswag, {"process_docs": None}),
    "openbookqa": Format("openbookqa", "openbookqa", _openbookqa),
    "piqa": Format("piqa", "piqa", _piqa),
    "winogrande": Format("winogrande", "winogrande_xl", _winogrande),
    "lambada_openai": Format("lambada", "lambada_openai", _lambada),
    "blimp": Format("blimp", "blimp", _blimp),
}

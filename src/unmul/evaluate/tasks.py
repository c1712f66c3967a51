"""Task suites through lm-eval: its own prompts, choices and metrics, on the hub's data or local files."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from unmul.errors import DataError, MissingExtraError, UsageError
from unmul.evaluate.bits import Predictor
from unmul.evaluate.local import FORMATS, find_file, read_rows

if TYPE_CHECKING:
    from unmul.evaluate.harness import OpenMeter

__all__ = ["run_tasks"]

SPLIT = "local"  # of a task whose items come from a file
BOOTSTRAP = 1000  # resamplings for the standard error of a figure that is not a mean
# One progress bar is enough, ours; and the bootstrap must not fork beside the threads of an engine.
QUIET = {"TQDM_DISABLE": "1", "DISABLE_MULTIPROC": "1"}


def run_tasks(
    engine: Predictor[Any],
    tokenizer: Tokenizer,
    names: Sequence[str],
    *,
    data: Path | None,
    limit: int | None,
    open_meter: OpenMeter,
) -> dict[str, Any]:
    """Evaluate an engine on tasks: figures with their standard errors, and the data and harness that they come from.

    Args:
        names: tasks or groups as lm-eval calls them.
        data: folder with their files; None asks the Hugging Face hub.
        limit: only the first items of each task, this many.
        open_meter: shows progress; from a label and the amount of work.

    Raises:
        MissingExtraError: lm-eval is not installed.
        UsageError: a name that lm-eval does not know, or that has no local format.
        DataError: a file is missing or wrong, or the hub does not answer.
    """
    with _quiet():
        try:
            import lm_eval
            from lm_eval.evaluator import evaluate
        except ModuleNotFoundError as error:
            if error.name not in ("lm_eval", "datasets"):
                raise
            raise MissingExtraError("lm-eval", "eval") from None
        from unmul.evaluate.harness import HarnessLM

        names = list(dict.fromkeys(names))
        files = _files(names, data) if data else {}
        tasks = _from_files(files) if data else _from_hub(names)
        model = HarnessLM(engine, tokenizer, open_meter)
        found = evaluate(model, tasks, limit=limit, bootstrap_iters=BOOTSTRAP, log_samples=False)
    return {
        "tasks": _all_figures(found),
        "limit": limit,
        "data": {name: {"file": path.name, "sha256": _sha256(path)} for name, path in files.items()},
        "versions": {"lm_eval": lm_eval.__version__},
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep lm-eval's bars, remarks and prints away from the result; the environment is as before afterwards."""
    before = {name: os.environ.get(name) for name in QUIET}
    os.environ |= QUIET
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _files(names: Sequence[str], folder: Path) -> dict[str, Path]:
    for name in names:
        if name not in FORMATS:
            remedy = f"choose from {', '.join(FORMATS)}, or leave out --data"
            raise UsageError(f"task {name!r} has no local format", remedy)
    return {name: find_file(folder, name) for name in names}


def _from_hub(names: Sequence[str]) -> Mapping[str, Any]:
    """What lm-eval evaluates, by its names."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager()
    for name in names:
        if name not in manager.task_index:
            close = difflib.get_close_matches(name, manager.all_tasks, 1)
            remedy = f"did you mean {close[0]!r}?" if close else "see the names of lm-eval: lm-eval ls tasks"
            raise UsageError(f"lm-eval has no task {name!r}", remedy)
    try:
        found: Mapping[str, Any] = manager.load(list(names))
    except OSError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"the hub's data cannot be had ({reason})", "give local files with --data DIR") from None
    return found


def _from_files(files: Mapping[str, Path]) -> Mapping[str, Any]:
    """What lm-eval evaluates: its own definitions of these tasks, with the items of files."""
    import lm_eval.tasks
    from lm_eval.api.group import Group
    from lm_eval.config.group import GroupConfig

    root = Path(lm_eval.tasks.__file__).parent
    # Only the folders that are needed: reading all of lm-eval's 14,000 definitions takes longer than a small model.
    folders = [root / folder for folder in sorted({FORMATS[name].folder for name in files})]
    manager = lm_eval.tasks.TaskManager(include_path=folders, include_defaults=False)
    tasks, groups = {}, {}
    for name, path in files.items():
        definition = dict(manager.task_index[name].cfg)
        parts = _parts(name, path, definition)
        loaded = manager.load({"group": "local files", "task": parts})["tasks"]
        tasks.update(loaded)
        if definition.pop("task") != name:
            groups[name] = Group.from_config(GroupConfig(**definition))
            for task in loaded.values():
                groups[name].add(task)
    return {"tasks": tasks, "groups": groups}


def _parts(name: str, path: Path, definition: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Changes to a task, or to those tasks of a group that the file has items of."""
    rows = read_rows(path, name)
    if "group" not in definition:
        return [_with_items(name, rows, FORMATS[name].changes)]
    by_task: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_task.setdefault(f"{name}_{row['UID']}", []).append(row)
    if unknown := by_task.keys() - set(definition["task"]):
        raise DataError(f"{path} has items of {sorted(unknown)[0]}, which lm-eval has not", "mend its field uid")
    return [_with_items(task, items, FORMATS[name].changes) for task, items in by_task.items()]


def _with_items(task: str, rows: list[dict[str, Any]], changes: Mapping[str, Any]) -> dict[str, Any]:
    from datasets import Dataset

    items = {SPLIT: Dataset.from_list(rows)}
    splits = {"training_split": None, "validation_split": None, "test_split": SPLIT}
    return {"task": task, "custom_dataset": lambda **_: items} | splits | dict(changes)


def _all_figures(found: Mapping[str, Any]) -> dict[str, Any]:
    inner = {name for names in found["group_subtasks"].values() for name in names}
    return {name: _figures(name, found) for name in found["results"] if name not in inner}


def _figures(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of a task or group, their standard errors (null where there is none), items, version, and its parts."""
    metrics = {}
    for key, value in found["results"][name].items():
        metric, comma, kind = key.partition(",")
        if comma:
            shown = metric if kind == "none" else key  # of lm-eval's filters, none is the plain answer
            metrics[shown] = None if value == "N/A" else float(value)
    parts = {part: _figures(part, found) for part in found["group_subtasks"].get(name, ())}
    items = found["n-samples"][name]["effective"] if not parts else sum(part["items"] for part in parts.values())
    figures = metrics | {"items": items, "version": found["versions"].get(name)}
    return figures | {"parts": parts} if parts else figures


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

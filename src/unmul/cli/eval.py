"""unmul eval: how well a model predicts a text, and how it does on tasks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unmul import __version__
from unmul.cli.output import emit, note, rows
from unmul.cli.progress import Progress
from unmul.errors import DataError, UsageError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from unmul.engine import Engine
    from unmul.evaluate import TextBits

__all__ = ["eval"]


def eval(
    model: Path,
    /,
    *,
    text: list[Path] | None = None,
    window: int | None = None,
    tasks: str | None = None,
    data: Path | None = None,
    limit: int | None = None,
    device: Literal["cpu", "cuda", "twin"] = "cpu",
    dtype: Literal["fp32", "bf16"] = "fp32",
    json: bool = False,
) -> None:
    """Measure bits per byte of texts, or accuracy on tasks: a packed model on its engine, a latent one in PyTorch.

    Args:
        model: folder of a packed or latent model, with its tokenizer.
        text: UTF-8 text, JSONL or Parquet, also .xz or .gz; repeat it for several files, each with its own figures.
        window: tokens of the windowed figure, which models with a bounded context give; the model's own when left out.
        tasks: task names of lm-eval, separated by commas, such as arc_easy,lambada_openai,blimp.
        data: folder with local files of these tasks; the Hugging Face hub when left out.
        limit: only the first documents of each text, or items of each task, this many.
        device: where the model runs: cpu, cuda for an NVIDIA GPU, or twin: a packed one as the accelerator computes it.
        dtype: of the products of a Llama's layers, which bf16 makes about three times faster where a CPU has AMX.
        json: write one JSON document instead of text.
    """
    from unmul.evaluate import open_any

    _check(text, window, tasks, data, limit)
    engine = open_any(model, device, dtype)
    if tasks:
        _eval_tasks(engine, model, tasks, data, limit, json)
    else:
        _eval_texts(engine, model, text or [], window, limit, json)


def _check(
    text: Sequence[Path] | None, window: int | None, tasks: str | None, data: Path | None, limit: int | None
) -> None:
    if bool(text) == bool(tasks):
        what = "both given" if tasks else "both missing"
        raise UsageError(f"--text and --tasks are {what}", "give --text FILE or --tasks NAME,NAME")
    if data and not tasks:
        raise UsageError(f"--data {data} has no --tasks", "give task names, or leave --data out")
    if window is not None and (window < 1 or not text):
        raise UsageError(f"--window {window} cannot be used", "give 1 or more tokens, with --text")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} leaves nothing", "choose 1 or more, or leave it out")


def _eval_texts(
    engine: Engine, model: Path, files: Sequence[Path], window: int | None, limit: int | None, json: bool
) -> None:
    from unmul.evaluate import TextBits
    from unmul.runtime import folder_tokenizer

    window = window or engine.config.max_position_embeddings
    tokenizer = folder_tokenizer(model, engine.config)
    each = [(str(file), _measure(engine, tokenizer, file, window, limit)) for file in files]
    total = reduce(TextBits.plus, (found for _file, found in each))
    if json:
        listed = [{"file": file} | _figures(found, window) for file, found in each]
        emit(_figures(total, window) | {"backend": engine.backend, "files": listed})
    else:
        print(rows(_text_rows(total, window, each)))


def _measure(engine: Engine, tokenizer: Tokenizer, file: Path, window: int, limit: int | None) -> TextBits:
    from unmul.data import read_documents
    from unmul.evaluate import TextBits, measure_texts

    texts = list(islice(read_documents([file]), limit))
    total = TextBits()
    with Progress(f"eval {file.name}", sum(len(part.encode()) for part in texts)) as progress:
        for total in measure_texts(engine, tokenizer, texts, window):
            progress.update(total.whole.bytes, f"{total.whole.bits_per_byte:.4f} bits per byte")
    if not total.whole.tokens:
        raise DataError(f"{file} holds no text", "give a file with at least one character")
    return total


def _figures(found: TextBits, window: int) -> dict[str, Any]:
    whole, windowed = found
    return {
        "bits_per_byte": whole.bits_per_byte,
        "perplexity": whole.perplexity,
        "tokens": whole.tokens,
        "bytes": whole.bytes,
        "windowed": {
            "window": window,
            "bits_per_byte": windowed.bits_per_byte,
            "perplexity": windowed.perplexity,
        },
    }


def _text_rows(total: TextBits, window: int, each: Sequence[tuple[str, TextBits]]) -> Iterator[tuple[str, str]]:
    whole, windowed = total
    yield "bits per byte", f"{whole.bits_per_byte:.4f}"
    yield "perplexity", f"{whole.perplexity:.3f} per token"
    yield f"in windows of {window}", f"{windowed.bits_per_byte:.4f} bits per byte, perplexity {windowed.perplexity:.3f}"
    yield "tokens", f"{whole.tokens:,}"
    yield "bytes", f"{whole.bytes:,}"
    if len(each) > 1:
        for file, found in each:
            yield file, f"{found.whole.bits_per_byte:.4f} bits per byte"


def _eval_tasks(engine: Engine, model: Path, names: str, data: Path | None, limit: int | None, json: bool) -> None:
    from unmul.evaluate import run_tasks, weights_checksum
    from unmul.runtime import folder_tokenizer

    tokenizer = folder_tokenizer(model, engine.config)
    listed = [name.strip() for name in names.split(",") if name.strip()]
    if limit is not None:
        note(f"only the first {limit} items of each task: a trial, not a result")
    note("preparing items; scoring begins when all are ready")  # lm-eval takes a minute for all of BLiMP
    start = time.perf_counter()
    found = run_tasks(engine, tokenizer, listed, data=data, limit=limit, open_meter=Progress)
    if json:
        found["versions"] = {"unmul": __version__} | found["versions"]
        about = {"folder": model.name, "checksum": weights_checksum(model), "backend": engine.backend}
        emit(found | {"model": about, "seconds": time.perf_counter() - start})
        return
    print(rows(line for name, figures in found["tasks"].items() for line in _task_rows(name, figures)))


def _task_rows(name: str, figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for metric, value in figures.items():
        if f"{metric}_stderr" in figures:
            spread = figures[f"{metric}_stderr"]
            error = "" if spread is None else f" ± {spread:.4f}"
            yield f"{name} {metric}", f"{value:.4f}{error}, {figures['items']:,} items"

"""unmul eval: how well a model predicts a text."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from unmul.cli.output import emit, rows
from unmul.cli.progress import Progress
from unmul.errors import DataError, UsageError

if TYPE_CHECKING:
    from unmul.evaluate import Bits

__all__ = ["eval"]


def eval(
    model: Path,
    /,
    *,
    text: Path,
    limit: int | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    json: bool = False,
) -> None:
    """Measure bits per byte of a text: a packed model on its engine, a latent one in PyTorch.

    Args:
        model: folder of a packed or latent model, with its tokenizer.
        text: UTF-8 text, also .xz or .gz; a line <|endoftext|> separates documents and is not counted.
        limit: read only this many documents.
        device: where the model runs: cpu, and cuda for a latent one.
        json: write one JSON document instead of text.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} leaves no text", "choose 1 or more, or leave it out")
    total = _measure(model, text, limit, device)
    if not total.tokens:
        raise DataError(f"{text} holds no text", "give a file with at least one character")
    if json:
        emit(
            {
                "bits_per_byte": total.bits_per_byte,
                "perplexity": total.perplexity,
                "tokens": total.tokens,
                "bytes": total.bytes,
            }
        )
        return
    print(
        rows(
            (
                ("bits per byte", f"{total.bits_per_byte:.4f}"),
                ("perplexity", f"{total.perplexity:.3f} per token"),
                ("tokens", f"{total.tokens:,}"),
                ("bytes", f"{total.bytes:,}"),
            )
        )
    )


def _measure(model: Path, text: Path, limit: int | None, device: str) -> Bits:
    from unmul.data import read_documents
    from unmul.evaluate import Bits, measure_texts, open_any
    from unmul.runtime import folder_tokenizer

    engine = open_any(model, device)
    tokenizer = folder_tokenizer(model, engine.config)
    texts = list(islice(read_documents([text]), limit))
    total = Bits()
    with Progress("eval", sum(len(part.encode()) for part in texts)) as progress:
        for total in measure_texts(engine, tokenizer, texts):
            progress.update(total.bytes, f"{total.bits_per_byte:.4f} bits per byte")
    return total

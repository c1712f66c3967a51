"""Bits per byte of raw text under any checkpoint folder: packed on its native engine, latent in PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer

from unmul.checkpoint import is_packed
from unmul.data.tokenizer import encode_all
from unmul.engine import Engine, open_engine
from unmul.errors import ConfigError, MissingExtraError
from unmul.evaluate.bits import Bits, Document, measure

__all__ = ["measure_texts", "open_any"]


def open_any(folder: Path, device: str = "cpu") -> Engine:
    """An engine over a packed folder, or over a latent one with PyTorch.

    Raises:
        MissingExtraError: the folder is latent and PyTorch is not installed.
    """
    if is_packed(folder):
        return open_engine(folder, device=device)
    try:
        from unmul.evaluate.latent import open_latent
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("torch", "train") from None
    return open_latent(folder, device)


def measure_texts(engine: Engine, tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[Bits]:
    """Score texts one by one, each from an empty state; yields the running sum after each."""
    begin = engine.config.begin_token_id
    if begin is None:
        raise ConfigError("the model has no begin or end token", "set eos_token_id in its config.json")
    documents = (Document(ids, size) for ids, size in encode_all(tokenizer, texts))
    yield from measure(engine, documents, begin)

"""Bits per byte of raw text under any checkpoint folder: packed on its native engine, others in PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from unmul.checkpoint import is_packed
from unmul.checkpoint.folder import CONFIG, read_json
from unmul.data.tokenizer import encode_all
from unmul.engine import open_engine
from unmul.errors import ConfigError, MissingExtraError
from unmul.evaluate.bits import Bits, Document, Predictor, measure

__all__ = ["measure_texts", "open_any"]


def open_any(folder: Path, device: str = "cpu") -> Predictor[Any]:
    """A packed folder on its engine; a latent one, or that of a Llama, in PyTorch.

    Raises:
        MissingExtraError: the folder needs PyTorch or transformers, which is not installed.
    """
    llama = read_json(folder / CONFIG).get("model_type") == "llama"
    if not llama and is_packed(folder):
        return open_engine(folder, device=device)
    try:
        return _open_llama(folder, device) if llama else _open_latent(folder, device)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers"):
            raise
        raise MissingExtraError(error.name, "train") from None


def _open_latent(folder: Path, device: str) -> Predictor[Any]:
    from unmul.evaluate.latent import open_latent

    return open_latent(folder, device)


def _open_llama(folder: Path, device: str) -> Predictor[Any]:
    from unmul.evaluate.windows import open_llama

    return open_llama(folder, device)


def measure_texts(engine: Predictor[Any], tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[Bits]:
    """Score texts one by one, each from an empty state; yields the running sum after each."""
    begin = engine.config.begin_token_id
    if begin is None:
        raise ConfigError("the model has no begin or end token", "set eos_token_id in its config.json")
    documents = (Document(ids, size) for ids, size in encode_all(tokenizer, texts))
    yield from measure(engine, documents, begin)

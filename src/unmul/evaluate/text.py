"""Bits per byte of raw text, with the state carried on through every document, and in windows beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from unmul.data.tokenizer import encode_all
from unmul.errors import ConfigError
from unmul.evaluate.bits import Bits, Document, Predictor, measure_document

__all__ = ["TextBits", "measure_texts"]


class TextBits(NamedTuple):
    """Sums over documents: with the state carried on, and with the state emptied every window tokens."""

    whole: Bits = Bits()
    windowed: Bits = Bits()

    def plus(self, other: TextBits) -> TextBits:
        """The sums of both."""
        return TextBits(self.whole + other.whole, self.windowed + other.windowed)


def measure_texts(
    engine: Predictor[Any], tokenizer: Tokenizer, texts: Iterable[str], window: int
) -> Iterator[TextBits]:
    """Score texts one by one, each from an empty state; yields the running sums after each."""
    begin = engine.config.begin_token_id
    if begin is None:
        raise ConfigError("the model has no begin or end token", "set eos_token_id in its config.json")
    total = TextBits()
    for ids, size in encode_all(tokenizer, texts):
        total = total.plus(_measure_text(engine, Document(ids, size), begin, window))
        yield total


def _measure_text(engine: Predictor[Any], document: Document, begin: int, window: int) -> TextBits:
    whole = measure_document(engine, document, begin)
    if len(document.ids) <= window:  # the same computation
        return TextBits(whole, whole)
    return TextBits(whole, measure_document(engine, document, begin, window))

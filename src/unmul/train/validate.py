"""Bits per byte of the model in training, through evaluate.bits like every other backend."""

from __future__ import annotations

from typing import Any

import torch

from unmul.data import Shards
from unmul.evaluate import Bits, Document, Predictor, measure
from unmul.evaluate.bits import CHUNK
from unmul.train.world import World

__all__ = ["validate"]


def validate(engine: Predictor[Any], shards: Shards, world: World) -> Bits:
    """Score the validation documents with an engine made for it, in float32; every process scores its share.

    Shards of weights are gathered at every call of the model, by all processes together: so all make as many calls.
    """
    documents = [Document(ids, size) for ids, size in shards.documents(shards.validation)]
    with torch.compiler.set_stance("force_eager"):  # texts have many lengths: layers would be compiled for each
        own = _share(engine, documents, shards.end, world)
    bits, tokens, size = world.total([own.bits, own.tokens, own.bytes])
    return Bits(bits, int(tokens), int(size))


def _share(engine: Predictor[Any], documents: list[Document], end: int, world: World) -> Bits:
    total = Bits()
    for start in range(0, len(documents), world.size):
        together = documents[start : start + world.size]
        own = together[world.rank : world.rank + 1]
        total = sum(measure(engine, own, end), total)
        for _ in range(max(map(_calls, together)) - sum(map(_calls, own))):
            engine.forward([end], engine.new_state())
    return total


def _calls(document: Document) -> int:
    """Calls of the model that measuring a document takes."""
    return -(-len(document.ids) // CHUNK)

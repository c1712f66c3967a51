"""Bits per byte of the model in training, through evaluate.bits like every other backend."""

from __future__ import annotations

from collections import deque
from typing import Any

from unmul.data import Shards
from unmul.evaluate import Bits, Document, Predictor, measure

__all__ = ["validate"]


def validate(engine: Predictor[Any], shards: Shards) -> Bits:
    """Score the validation documents with the model as it is, in float32."""
    documents = (Document(ids, size) for ids, size in shards.documents(shards.validation))
    sums = measure(engine, documents, shards.end)
    return deque(sums, maxlen=1).pop()

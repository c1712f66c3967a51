"""Bits per byte of the model in training, through evaluate.bits like every other backend."""

from __future__ import annotations

from collections import deque

from unmul.data import Shards
from unmul.evaluate import Bits, Document, measure
from unmul.evaluate.latent import TorchEngine
from unmul.model import MatMulFreeLM

__all__ = ["validate"]


def validate(model: MatMulFreeLM, shards: Shards) -> Bits:
    """Score the validation documents with the model as it is, in float32."""
    documents = (Document(ids, size) for ids, size in shards.documents(shards.validation))
    sums = measure(TorchEngine(model), documents, shards.end)
    return deque(sums, maxlen=1).pop()

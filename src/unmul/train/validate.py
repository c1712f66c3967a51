"""Bits per byte of the model in training, through evaluate.bits like every other backend."""

# L layers, D width, T tokens, V vocabulary

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from unmul.data import Shards
from unmul.data.tokenizer import end_id
from unmul.engine.base import FloatArray
from unmul.evaluate import Bits, Document, measure
from unmul.model import MatMulFreeLM

__all__ = ["TorchEngine", "validate"]


class TorchEngine:
    """engine.base.Engine over a PyTorch model of any kind, in float32."""

    def __init__(self, model: MatMulFreeLM) -> None:
        self.config = model.config
        self.backend = f"torch {model.lm_head.norm.weight.device.type}"
        self._model = model

    def new_state(self) -> FloatArray:
        return np.zeros((self.config.num_hidden_layers, self.config.hidden_size), np.float32)

    @torch.inference_mode()
    def forward(self, ids: Sequence[int], state: FloatArray, *, every: bool = False) -> FloatArray:
        device = self._model.lm_head.norm.weight.device
        output = self._model(torch.tensor([list(ids)], device=device), torch.tensor(state, device=device)[:, None])
        state[:] = output.state[:, 0].cpu().numpy()
        logits: FloatArray = output.logits[0].cpu().numpy()
        return logits if every else logits[-1]


def validate(model: MatMulFreeLM, shards: Shards) -> Bits:
    """Score the validation documents with the model as it is."""
    documents = (Document(ids, size) for ids, size in shards.documents(shards.validation))
    return _last(measure(TorchEngine(model), documents, end_id(shards.tokenizer)))


def _last(sums: Iterable[Bits]) -> Bits:
    return deque(sums, maxlen=1).pop()

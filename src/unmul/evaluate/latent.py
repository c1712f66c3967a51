"""A latent checkpoint as an engine: PyTorch behind the interface that every runtime has."""

# T tokens, V vocabulary, L layers, D width

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from unmul.engine.base import FloatArray
from unmul.errors import UsageError
from unmul.model import MatMulFreeLM, load_model

__all__ = ["LatentEngine"]


class LatentEngine:
    """engine.base.Engine over a PyTorch model."""

    def __init__(self, model: MatMulFreeLM, device: str) -> None:
        self.config = model.config
        self.backend = f"torch {torch.__version__}, {device}"
        self._model = model.to(device).eval()
        self._device = device

    @classmethod
    def open(cls, folder: Path, device: str) -> LatentEngine:
        """Load a folder in float32 onto a device of PyTorch."""
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:  # AssertionError: a build of PyTorch without CUDA
            raise UsageError(f"device {device!r} cannot be used ({str(error).splitlines()[0]})", "choose cpu") from None
        return cls(load_model(folder), device)

    def new_state(self) -> FloatArray:
        return np.zeros((self.config.num_hidden_layers, self.config.hidden_size), np.float32)

    @torch.inference_mode()
    def forward(self, ids: Sequence[int], state: FloatArray, *, every: bool = False) -> FloatArray:
        ids_BT = torch.tensor([list(ids)], device=self._device)
        output = self._model(ids_BT, torch.from_numpy(state)[:, None].to(self._device))
        state[:] = output.state[:, 0].cpu().numpy()
        logits_TV: FloatArray = output.logits[0].float().cpu().numpy()
        return logits_TV if every else logits_TV[-1]

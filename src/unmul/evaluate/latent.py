"""A PyTorch model as an engine: latent checkpoints and models in training answer like every other runtime."""

# B sequences, T tokens, V vocabulary, L layers, D width

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from unmul.engine.base import FloatArray
from unmul.errors import UsageError
from unmul.model import MatMulFreeLM, load_model

__all__ = ["TorchEngine", "open_latent", "require_device"]


class TorchEngine:
    """engine.base.Engine over a PyTorch model, on the device where it is."""

    def __init__(self, model: MatMulFreeLM) -> None:
        self.config = model.config
        self._device = model.lm_head.norm.weight.device
        self.backend = f"torch {torch.__version__}, {self._device.type}"
        self._model = model

    def new_state(self) -> FloatArray:
        return np.zeros((self.config.num_hidden_layers, self.config.mixer_size), np.float32)

    @torch.inference_mode()
    def forward(self, ids: Sequence[int], state: FloatArray, *, every: bool = False) -> FloatArray:
        ids_BT = torch.tensor([list(ids)], device=self._device)
        output = self._model(ids_BT, torch.tensor(state, device=self._device)[:, None])
        state[:] = output.state[:, 0].cpu().numpy()
        logits_TV = output.logits[0] if every else output.logits[0, -1]  # the others need not leave the device
        logits: FloatArray = logits_TV.float().cpu().numpy()
        return logits

    @torch.inference_mode()
    def step(self, ids: Sequence[int], states: Sequence[FloatArray]) -> FloatArray:
        ids_BT = torch.tensor(list(ids), device=self._device)[:, None]
        output = self._model(ids_BT, torch.tensor(np.stack(states, 1), device=self._device))
        for b, state in enumerate(states):
            state[:] = output.state[:, b].cpu().numpy()
        logits_BV: FloatArray = output.logits[:, -1].float().cpu().numpy()
        return logits_BV


def open_latent(folder: Path, device: str) -> TorchEngine:
    """Load a folder in float32 onto a device of PyTorch."""
    require_device(device)
    return TorchEngine(load_model(folder).to(device))


def require_device(device: str) -> None:
    """Refuse a device that PyTorch cannot use here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: a build of PyTorch without CUDA
        raise UsageError(f"device {device!r} cannot be used ({str(error).splitlines()[0]})", "choose cpu") from None

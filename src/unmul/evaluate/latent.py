"""A PyTorch model as an engine: latent checkpoints and models in training answer like every other runtime."""

# B sequences, T tokens, V vocabulary, L layers, D width

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from unmul.engine.base import FloatArray
from unmul.errors import UsageError
from unmul.model import MatMulFreeLM, Output, load_model
from unmul.ops.ternarise.held import Codes, hold_codes

__all__ = ["TorchEngine", "log2_probabilities", "open_latent", "require_device"]

WHOLE = 256  # tokens of which a GPU reads a multiple: its kernels are compiled anew for lengths that are not round


class TorchEngine:
    """engine.base.Engine over a PyTorch model, on the device where it is.

    Weights are ternarised when they are first used, and must not change afterwards: a step of training needs a new one.
    """

    def __init__(self, model: MatMulFreeLM) -> None:
        self.config = model.config
        self._device = model.lm_head.norm.weight.device
        self.backend = f"torch {torch.__version__}, {self._device.type}"
        self._model, self._codes = model, Codes()
        self._multiple = WHOLE if self._device.type == "cuda" else 1

    def new_state(self) -> FloatArray:
        return np.zeros((self.config.num_hidden_layers, self.config.mixer_size), np.float32)

    @torch.inference_mode()
    def forward(self, ids: Sequence[int], state: FloatArray, *, every: bool = False) -> FloatArray:
        logits_TV = self._read(ids, state)
        chosen = logits_TV if every else logits_TV[-1]  # the others need not leave the device
        logits: FloatArray = chosen.float().cpu().numpy()
        return logits

    @torch.inference_mode()
    def log2_probabilities(
        self, ids: Sequence[int], targets: Sequence[int], state: FloatArray
    ) -> npt.NDArray[np.float64]:
        """As bits.Scorer: log2 p [T] of each target after its token, taken on the device."""
        return log2_probabilities(self._read(ids, state), targets)

    def _read(self, ids: Sequence[int], state: FloatArray) -> torch.Tensor:
        """Logits [T, V] on the device; what fills up the length on a GPU is masked, so that the state passes it by."""
        missing = -len(ids) % self._multiple
        ids_BT = torch.tensor([[*ids, *[0] * missing]], device=self._device)
        mask_BT = None if self._multiple == 1 else (torch.arange(ids_BT.shape[1], device=self._device) < len(ids))[None]
        output = self._run(ids_BT, [state], mask_BT)
        state[:] = output.state[:, 0].cpu().numpy()
        logits_TV: torch.Tensor = output.logits[0, : len(ids)]
        return logits_TV

    @torch.inference_mode()
    def step(self, ids: Sequence[int], states: Sequence[FloatArray]) -> FloatArray:
        ids_BT = torch.tensor(list(ids), device=self._device)[:, None]
        output = self._run(ids_BT, states)
        for b, state in enumerate(states):
            state[:] = output.state[:, b].cpu().numpy()
        logits_BV: FloatArray = output.logits[:, -1].float().cpu().numpy()
        return logits_BV

    def _run(self, ids_BT: torch.Tensor, states: Sequence[FloatArray], mask_BT: torch.Tensor | None = None) -> Output:
        state_LBE = torch.tensor(np.stack(states, 1), device=self._device)
        with hold_codes(self._codes):
            output: Output = self._model(ids_BT, state_LBE, mask_BT)
        return output


def log2_probabilities(logits_TV: torch.Tensor, targets: Sequence[int]) -> npt.NDArray[np.float64]:
    """bits.log2_probabilities where the logits are."""
    targets_T1 = torch.tensor(list(targets), device=logits_TV.device)[:, None]
    logs_T1 = logits_TV.double().log_softmax(-1).gather(-1, targets_T1)
    found: npt.NDArray[np.float64] = (logs_T1[:, 0] / math.log(2)).cpu().numpy()
    return found


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

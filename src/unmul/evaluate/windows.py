"""A Transformer as something to measure: it has no state, so it reads windows of the length that it was trained on."""

# B sequences, T tokens, V vocabulary

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from transformers import LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from unmul.config import ModelConfig
from unmul.engine.base import FloatArray
from unmul.errors import CheckpointError
from unmul.evaluate.latent import log2_probabilities, require_device

__all__ = ["WindowEngine", "open_llama"]

SHAPE = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "max_position_embeddings", "rms_norm_eps",
    "bos_token_id", "eos_token_id",
)  # fmt: skip


class WindowEngine:
    """Logits of a Transformer after each token of a text of any length; the state is the list of tokens read.

    The text is read in pieces of at most half a window, each with as many tokens before it as fit. So every token is
    predicted from all tokens before it, or from at least window / 2 and at most window of them: a recurrence sees all.
    That handicap, and the twofold work, are the price of a model whose positions end at the training context.

    A step reads the windows of all contexts again: there is no cache.

    Args:
        predict: logits [B, T, V] of ids [B, T].
        config: the shape; max_position_embeddings is the window.
    """

    def __init__(self, predict: Callable[[torch.Tensor], torch.Tensor], config: ModelConfig, device: str) -> None:
        self.config = config
        self.backend = f"torch {torch.__version__}, {device}"
        self._predict, self._window, self._device = predict, config.max_position_embeddings, device

    def new_state(self) -> list[int]:
        return []

    def forward(self, ids: Sequence[int], state: list[int], *, every: bool = False) -> FloatArray:
        logits: FloatArray = self._after(ids, state).float().cpu().numpy()
        return logits if every else logits[-1]

    def log2_probabilities(
        self, ids: Sequence[int], targets: Sequence[int], state: list[int]
    ) -> npt.NDArray[np.float64]:
        """As bits.Scorer: log2 p [T] of each target after its token, taken on the device."""
        return log2_probabilities(self._after(ids, state), targets)

    def _after(self, ids: Sequence[int], state: list[int]) -> torch.Tensor:
        """Logits [T, V] on the device."""
        known, text, piece = len(state), [*state, *ids], max(self._window // 2, 1)
        pieces = [(start, min(start + piece, len(text))) for start in range(known, len(text), piece)]
        windows = [text[max(end - self._window, 0) : end] for _, end in pieces]
        logits_BTV = self._read(windows)
        found = zip(logits_BTV, windows, pieces, strict=True)
        parts = [logits_TV[len(window) - (end - start) : len(window)] for logits_TV, window, (start, end) in found]
        state[:] = text[-self._window :]
        return torch.cat(parts)

    def step(self, ids: Sequence[int], states: Sequence[list[int]]) -> FloatArray:
        for token, state in zip(ids, states, strict=True):
            state[:] = [*state, token][-self._window :]
        logits_BTV = self._read(list(states))
        last_B = torch.tensor([len(state) - 1 for state in states], device=logits_BTV.device)
        logits: FloatArray = logits_BTV[torch.arange(len(states)), last_B].float().cpu().numpy()
        return logits

    @torch.inference_mode()
    def _read(self, windows: list[list[int]]) -> torch.Tensor:
        """All windows in one call: attention is causal, so what fills up the ends of shorter ones changes nothing."""
        longest = max(map(len, windows))
        ids_BT = torch.tensor([window + [0] * (longest - len(window)) for window in windows], device=self._device)
        with torch.compiler.set_stance("force_eager"):  # a compiled layer would be compiled for every length
            return self._predict(ids_BT)


def open_llama(folder: Path, device: str) -> WindowEngine:
    """Load a Llama's folder in float32 onto a device of PyTorch."""
    require_device(device)
    disable_progress_bar()
    try:
        model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be loaded ({error})", "copy or download it again") from None
    model.to(device)
    shape = ModelConfig(**{name: getattr(model.config, name) for name in SHAPE})
    return WindowEngine(lambda ids_BT: model(ids_BT, use_cache=False).logits, shape, device)

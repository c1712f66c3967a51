"""A Transformer as something to measure: it has no state, so it reads windows of the length that it was trained on."""

# B sequences, T tokens, V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from unmul.config import ModelConfig
from unmul.engine.base import FloatArray
from unmul.errors import CheckpointError
from unmul.evaluate.latent import require_device

__all__ = ["WindowEngine", "open_llama"]

SHAPE = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "max_position_embeddings", "rms_norm_eps",
    "bos_token_id", "eos_token_id",
)  # fmt: skip


class WindowEngine:
    """Logits of transformers' Llama after each token of a text of any length; the state is the list of tokens read.

    The text is read in pieces of at most half a window, each with as many tokens before it as fit. So every token is
    predicted from all tokens before it, or from at least window / 2 and at most window of them: a recurrence sees
    all. That handicap, and the twofold work, are the price of a model whose positions end at the training context.
    """

    def __init__(self, model: LlamaForCausalLM, config: ModelConfig) -> None:
        self.config = config
        self._model, self._window = model, config.max_position_embeddings

    def new_state(self) -> list[int]:
        return []

    def forward(self, ids: Sequence[int], state: list[int], *, every: bool = False) -> FloatArray:
        piece = max(self._window // 2, 1)
        parts = [self._read(list(ids[start : start + piece]), state) for start in range(0, len(ids), piece)]
        logits_TV: FloatArray = torch.cat(parts).float().cpu().numpy()
        return logits_TV if every else logits_TV[-1]

    @torch.inference_mode()
    def _read(self, ids: list[int], state: list[int]) -> torch.Tensor:
        state += ids
        del state[: -self._window]
        window_BT = torch.tensor([state], device=self._model.device)
        with torch.compiler.set_stance("force_eager"):  # a compiled layer would be compiled for every length
            logits_BTV: torch.Tensor = self._model(window_BT, use_cache=False, logits_to_keep=len(ids)).logits
        return logits_BTV[0]


def open_llama(folder: Path, device: str) -> WindowEngine:
    """Load a Llama's folder in float32 onto a device of PyTorch."""
    require_device(device)
    disable_progress_bar()
    try:
        model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be loaded ({error})", "copy or download it again") from None
    return WindowEngine(model.to(device), ModelConfig(**{name: getattr(model.config, name) for name in SHAPE}))

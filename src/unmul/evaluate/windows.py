"""A Transformer as something to measure: it has no state, so it reads windows of the length that it was trained on."""

# B sequences, T tokens, V vocabulary

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

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
from unmul.evaluate.score import Pair, Score

__all__ = ["DType", "WindowEngine", "open_llama"]

DType = Literal["fp32", "bf16"]
CALL = 1024  # tokens a call, where there are several short texts: a processor gains nothing by more

SHAPE = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "max_position_embeddings", "rms_norm_eps",
    "bos_token_id", "eos_token_id",
)  # fmt: skip


class _Window(NamedTuple):
    """Tokens that are read together from the first position on; the logits of so many at the end are wanted."""

    ids: Sequence[int]
    wanted: int


class WindowEngine:
    """Logits of a Transformer after each token of a text of any length; the state is the list of tokens read.

    The text is read in pieces: a whole window, then half a window at a time with as many tokens before it as fit. So
    every token is predicted from all tokens before it, or from at least window / 2 and at most window of them: a
    recurrence sees all. That handicap, and the twofold work, are the price of a model whose positions end at the
    training context.

    A step reads the windows of all contexts again: there is no cache.

    Args:
        predict: logits [B, T, V] of ids [B, T]. Called once by every method but score, as sharded weights need it.
        config: the shape; max_position_embeddings is the window.
        dtype: what predict computes in, for `backend`.
    """

    def __init__(
        self, predict: Callable[[torch.Tensor], torch.Tensor], config: ModelConfig, device: str, dtype: DType = "fp32"
    ) -> None:
        self.config = config
        self.backend = f"torch {torch.__version__}, {device}, {dtype}"
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

    def step(self, ids: Sequence[int], states: Sequence[list[int]]) -> FloatArray:
        for token, state in zip(ids, states, strict=True):
            state[:] = [*state, token][-self._window :]
        logits: FloatArray = torch.cat(self._read([_Window(state, 1) for state in states])).float().cpu().numpy()
        return logits

    def score(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Score]]:
        """As score.PairScorer: context and continuation are read together, texts of like length in one call."""
        lengths = [len(pair.context) + len(pair.continuation) for pair in pairs]
        for group in _groups(sorted(range(len(pairs)), key=lengths.__getitem__), lengths):
            windows = [self._pieces(_text(pairs[index]), len(pairs[index].context) - 1) for index in group]
            logits = iter(self._read([window for own in windows for window in own]))
            for index, own in zip(group, windows, strict=True):
                yield index, _score(list(islice(logits, len(own))), pairs[index].continuation)

    def _after(self, ids: Sequence[int], state: list[int]) -> torch.Tensor:
        """Logits [T, V] on the device."""
        text = [*state, *ids]
        parts = self._read(self._pieces(text, len(state)))
        state[:] = text[-self._window :]
        return torch.cat(parts)

    def _pieces(self, text: Sequence[int], known: int) -> list[_Window]:
        """Windows that give the logits after all tokens of a text but the first `known`."""
        found, start, half = [], known, max(self._window // 2, 1)
        while start < len(text):
            end = min(max(start + half, self._window), len(text))
            found.append(_Window(text[max(end - self._window, 0) : end], end - start))
            start = end
        return found

    @torch.inference_mode()
    def _read(self, windows: Sequence[_Window]) -> list[torch.Tensor]:
        """Of each window the logits [wanted, V], all windows in one call.

        Attention is causal, so what fills up the ends of shorter ones changes nothing.
        """
        if not windows:
            return []
        longest = max(len(ids) for ids, _wanted in windows)
        ids_BT = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids, _wanted in windows], device=self._device)
        with torch.compiler.set_stance("force_eager"):  # a compiled layer would be compiled for every length
            logits_BTV = self._predict(ids_BT)
        return [row_TV[len(ids) - wanted : len(ids)] for row_TV, (ids, wanted) in zip(logits_BTV, windows, strict=True)]


def _text(pair: Pair) -> list[int]:
    """What is read of a pair: nothing is predicted after its last token."""
    return [*pair.context, *pair.continuation][:-1]


def _groups(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in order of rising length, as many together as CALL allows when all are filled up to the longest."""
    group: list[int] = []
    for index in order:
        if group and (len(group) + 1) * lengths[index] > CALL:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def _score(parts: Sequence[torch.Tensor], continuation: Sequence[int]) -> Score:
    if not parts:
        return Score(0.0, True)
    logits_TV = torch.cat(list(parts))
    greedy = logits_TV.argmax(-1).tolist() == list(continuation)
    return Score(math.log(2) * float(log2_probabilities(logits_TV, continuation).sum()), greedy)


def open_llama(folder: Path, device: str, dtype: DType) -> WindowEngine:
    """Load a Llama's folder onto a device; with bf16 the products of its layers are taken in bf16, as in training.

    The residual stream, norms and the head stay float32: logits in bf16 would tie.
    """
    require_device(device)
    disable_progress_bar()
    try:
        model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be loaded ({error})", "copy or download it again") from None
    model.to(device)
    if dtype == "bf16":
        _round_layers(model)

    def predict(ids_BT: torch.Tensor) -> torch.Tensor:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=dtype == "bf16"):
            x_BTD = model.model(ids_BT, use_cache=False).last_hidden_state
        logits_BTV: torch.Tensor = model.lm_head(x_BTD)
        return logits_BTV

    shape = ModelConfig(**{name: getattr(model.config, name) for name in SHAPE})
    return WindowEngine(predict, shape, device, dtype)


def _round_layers(model: Any) -> None:
    """What autocast would do with the weights of projections, once instead of at every call."""
    for module in model.model.layers.modules():
        if isinstance(module, torch.nn.Linear):
            module.to(torch.bfloat16)

"""The Transformer that a MatMul-free model is compared with: a Llama of the same shape, from transformers.

Same width D, hidden width I, layers L and vocabulary V, untied embeddings, rotary positions, scaled dot product
attention with heads of 128 (of 64 below a width of 1024).
Its projections are as many as ours, in the same sizes: 4 D D + 3 D I.
"""

# B windows, T context, V vocabulary, D width

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from unmul.checkpoint.tensorfile import Array
from unmul.config import ModelConfig
from unmul.errors import ConfigError
from unmul.evaluate.windows import WindowEngine
from unmul.files import atomic_folder
from unmul.train.family import Family
from unmul.train.packing import document_numbers, positions

__all__ = [
    "TRANSFORMER",
    "LlamaLM",
    "compile_blocks",
    "llama_config",
    "llama_engine",
    "recompute_activations",
    "save_llama",
]


class LlamaLM(nn.Module):
    """transformers' Llama with what the training loop asks of a model: its shape as `config`, and `loss`."""

    def __init__(self, shape: ModelConfig) -> None:
        super().__init__()
        self.config = shape
        self.llama = LlamaForCausalLM._from_config(llama_config(shape), attn_implementation="sdpa")
        self.cross_entropy = _CrossEntropy()

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Logits [B, T, V] of ids [B, T]; documents that begin where the mask [B, T] is 2 do not see each other.

        The layers are called here because transformers' own loop looks at positions to find documents: the CPU waits
        for the GPU, and in a CUDA graph every step gets a mask, which rules out SDPA's fastest kernel.
        """
        decoder = self.llama.model
        x_BTD = decoder.embed_tokens(ids_BT)
        time_1T = torch.arange(ids_BT.shape[1], device=ids_BT.device)[None]
        rotary = decoder.rotary_emb(x_BTD, position_ids=time_1T if mask_BT is None else positions(mask_BT))
        seen_B1TT = None if mask_BT is None else _seen(mask_BT)
        for layer in decoder.layers:
            x_BTD = layer(x_BTD, attention_mask=seen_B1TT, position_embeddings=rotary)
        return self.llama.lm_head(decoder.norm(x_BTD))

    def loss(self, ids_BT: Tensor, targets_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Mean cross-entropy in nats of predicting targets [B, T] (-100: not counted) from ids [B, T].

        With a mask SDPA takes B T T truth values, and a slower kernel.
        """
        return self.cross_entropy(self(ids_BT, mask_BT), targets_BT)


def _seen(mask_BT: Tensor) -> Tensor:
    """Which tokens each token attends to [B, 1, T, T]: itself and those before it in its document."""
    numbers_BT = document_numbers(mask_BT)
    return (numbers_BT[:, None, :, None] == numbers_BT[:, None, None, :]).tril()


class _CrossEntropy(nn.Module):
    """A module, so that it can be compiled in place like a layer."""

    def forward(self, logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten())


def llama_config(shape: ModelConfig) -> LlamaConfig:
    """The Llama of a shape; positions end at the training context."""
    width = shape.hidden_size
    if shape.expand_ratio != 1:
        raise ConfigError(
            f"model.expand_ratio {shape.expand_ratio} is of the token mixer, and a transformer has none",
            f"set it to 1, and for as many parameters add {4 * (shape.mixer_size - width) // 3} to intermediate_size",
        )
    head = 128 if width >= 1024 and width % 128 == 0 else 64
    if width % head:
        raise ConfigError(
            f"model.hidden_size {width} cannot be split into attention heads of 64",
            f"choose a multiple of 64, such as {64 * max(round(width / 64), 1)}",
        )
    return LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=width,
        intermediate_size=shape.ffn_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=width // head,
        max_position_embeddings=shape.max_position_embeddings,
        rms_norm_eps=shape.rms_norm_eps,
        initializer_range=shape.initializer_range,
        bos_token_id=shape.bos_token_id,
        eos_token_id=shape.eos_token_id,
        tie_word_embeddings=False,
    )


def compile_blocks(model: LlamaLM) -> None:
    """Compile each layer and the loss in place."""
    for module in (*model.llama.model.layers, model.cross_entropy):
        module.compile(dynamic=False)


def _build(shape: ModelConfig, seed: int) -> LlamaLM:
    with torch.random.fork_rng(devices=()):  # transformers draws from the global generator
        torch.manual_seed(seed)
        return LlamaLM(shape)


def llama_engine(model: LlamaLM) -> WindowEngine:
    """A Llama in training as something whose predictions are measured."""
    return WindowEngine(model, model.config, str(model.llama.device))


def save_llama(
    kind: type[LlamaLM],
    folder: Path,
    shape: ModelConfig,
    read: Callable[[str], Array],
    *,
    companions: Callable[[Path], None],
) -> None:
    """Family.save by transformers' save_pretrained, of LlamaLM or a kind of it."""
    with torch.device("meta"):
        model = kind(shape)
    model.load_state_dict({name: torch.from_numpy(read(name)) for name in model.state_dict()}, assign=True)
    disable_progress_bar()  # the run has its own
    with atomic_folder(folder) as temporary:
        try:
            model.llama.save_pretrained(temporary)
        except SafetensorError as error:  # its own error for a full disk
            raise OSError(str(error)) from error
        companions(temporary)


def recompute_activations(model: LlamaLM) -> None:
    """Keep only the input of each layer in training."""
    # Without dropout nothing draws, and a CUDA graph cannot save the generator's state.
    model.llama.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})


TRANSFORMER = Family(
    build=_build,
    engine=llama_engine,
    save=partial(save_llama, LlamaLM),
    compile=compile_blocks,
    checkpoint_activations=recompute_activations,
)

"""The model's shape: one frozen dataclass, its presets, and every number that follows from it."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from unmul.errors import ConfigError

__all__ = ["PRESETS", "ModelConfig", "preset"]

MODEL_TYPE = "hgrn_bit"
ARCHITECTURE = "HGRNBitForCausalLM"

# Keys of published or transformers-written config.json files (4.40 to 5.x) that change nothing here.
# quantization_config and unmul_ternary describe the files, not the model: the checkpoint package reads them.
INERT_KEYS = frozenset({
    "_name_or_path", "add_cross_attention", "architectures", "attn_mode", "auto_map", "bad_words_ids",
    "begin_suppress_tokens", "chunk_size_feed_forward", "cross_attention_hidden_size", "decoder_start_token_id",
    "diversity_penalty", "do_sample", "dtype", "early_stopping", "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty", "finetuning_task", "forced_bos_token_id", "forced_eos_token_id",
    "fuse_cross_entropy", "id2label", "is_decoder", "is_encoder_decoder", "label2id", "length_penalty", "max_length",
    "min_length", "model_type", "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences",
    "output_attentions", "output_hidden_states", "output_scores", "prefix", "problem_type", "pruned_heads",
    "quantization_config", "remove_invalid_values", "repetition_penalty", "return_dict", "return_dict_in_generate",
    "sep_token_id", "share_conv_kernel", "suppress_tokens", "task_specific_params", "temperature",
    "tf_legacy_loss", "tie_encoder_decoder", "tokenizer_class", "top_k", "top_p", "torch_dtype", "torchscript",
    "transformers_version", "typical_p", "unmul_ternary", "use_bfloat16", "use_cache",
})  # fmt: skip

# Departures from the published model: left out of config.json where they are off, which is then the published one.
OPTIONS = ("use_shared_norm", "use_state_norm")

# What the published weights never use, with the only value that works until somebody needs another.
FIXED = {"num_heads": 1, "use_short_conv": False, "tie_word_embeddings": False}


# Far beyond any model, so that a damaged file is refused before somebody counts to its numbers.
LARGEST = {
    "vocab_size": 2**24,
    "hidden_size": 2**18,  # more columns than an int32 sum of the engine can hold
    "intermediate_size": 2**18,
    "num_hidden_layers": 2**12,
    "expand_ratio": 2**6,
    "max_position_embeddings": 2**31,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Shape of a MatMul-free language model under its published field names (model_type "hgrn_bit").

    Source: arXiv 2406.02528, section 3.3, and the published config.json files.

    Args:
        use_shared_norm: the norms of a layer's i, f and g projections have one gain in common, so that one 8-bit
            operand serves all three. Files keep three equal tensors: whoever knows nothing of it computes the same.
        use_state_norm: the output gate is RMSNorm(h) * SiLU(g), as in HGRN, instead of RMSNorm(g) * SiLU(h).
    """

    vocab_size: int = 32000
    hidden_size: int = 2048
    num_hidden_layers: int = 24
    num_heads: int = 1
    expand_ratio: int = 1  # how many times D the token mixer and its state are wide
    use_short_conv: bool = False
    conv_size: int = 4
    use_lower_bound: bool = True
    hidden_ratio: float = 4  # only used when intermediate_size is None
    intermediate_size: int | None = None
    hidden_act: str = "swish"  # SiLU is what runs, whatever this says
    max_position_embeddings: int = 2048  # a hint for training; the recurrence has no limit
    rms_norm_eps: float = 1e-6
    bos_token_id: int | None = 1
    eos_token_id: int | None = 2
    pad_token_id: int | None = None
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02
    use_shared_norm: bool = False
    use_state_norm: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings", "expand_ratio"):
            _require_count(name, getattr(self, name))
        if self.intermediate_size is not None:
            _require_count("intermediate_size", self.intermediate_size)
        for name in ("hidden_ratio", "rms_norm_eps", "initializer_range"):
            _require_positive(name, getattr(self, name))
        if self.intermediate_size is None and self.hidden_size * self.hidden_ratio > LARGEST["intermediate_size"]:
            raise ConfigError(f"hidden_ratio {self.hidden_ratio!r} makes the channel mixer too wide", "choose 4")
        if self.mixer_size > LARGEST["hidden_size"]:
            raise ConfigError(f"expand_ratio {self.expand_ratio} makes the token mixer too wide", "choose 1 or 2")
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            _require_token(name, getattr(self, name), self.vocab_size)
        for name, value in FIXED.items():
            if getattr(self, name) != value:
                raise ConfigError(f"{name} {getattr(self, name)!r} is not supported", f"set it to {value!r}")
        for name in ("use_lower_bound", *OPTIONS):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} {getattr(self, name)!r} is not a truth value", "set true or false")

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> ModelConfig:
        """Read the content of a published config.json; unknown keys are refused by name."""
        model_type = raw.get("model_type", MODEL_TYPE)
        if model_type != MODEL_TYPE:
            raise ConfigError(f"model_type {model_type!r} is not a MatMul-free model", f"expected {MODEL_TYPE!r}")
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(raw) - known - INERT_KEYS)
        if unknown:
            raise ConfigError(f"unknown config field {unknown[0]!r}", "remove it, or correct its name")
        return cls(**{name: value for name, value in raw.items() if name in known})

    def to_dict(self) -> dict[str, Any]:
        """The content of a config.json in the published layout, with the options that are on."""
        known = {name: value for name, value in asdict(self).items() if value or name not in OPTIONS}
        return {"architectures": [ARCHITECTURE], "model_type": MODEL_TYPE, **known}

    @property
    def mixer_size(self) -> int:
        """Width E of the token mixer and of a layer's state: expand_ratio * D."""
        return self.expand_ratio * self.hidden_size

    @property
    def ffn_size(self) -> int:
        """Width I of the channel mixer: given, or hidden_ratio * D * 2/3 rounded up to 256."""
        if self.intermediate_size is not None:
            return self.intermediate_size
        return 256 * math.ceil(int(self.hidden_size * self.hidden_ratio * 2 / 3) / 256)

    @property
    def begin_token_id(self) -> int | None:
        """The token that every text begins after, in generation and evaluation: bos, or eos where there is none."""
        return self.eos_token_id if self.bos_token_id is None else self.bos_token_id

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor of a latent checkpoint, in the published layout and order."""
        d, e, i = self.hidden_size, self.mixer_size, self.ffn_size
        v, layers = self.vocab_size, self.num_hidden_layers
        shapes: dict[str, tuple[int, ...]] = {
            "model.embeddings.weight": (v, d),
            "model.lower_bounds": (layers, e),
        }
        for layer in range(layers):
            prefix = f"model.layers.{layer}."
            shapes[prefix + "attn_norm.weight"] = (d,)
            for gate in "ifg":
                shapes |= _projection(f"{prefix}attn.{gate}_proj", e, d)
            shapes |= _projection(f"{prefix}attn.o_proj", d, e)
            shapes[prefix + "attn.g_norm.weight"] = (e,)
            shapes[prefix + "mlp_norm.weight"] = (d,)
            shapes |= _projection(prefix + "mlp.gate_proj", 2 * i, d)
            shapes |= _projection(prefix + "mlp.down_proj", d, i)
        shapes["model.norm.weight"] = (d,)
        return shapes | _projection("lm_head", v, d)

    @property
    def ternary_names(self) -> tuple[str, ...]:
        """Names of the tensors that are ternary when packed: every projection and the head."""
        return tuple(name for name in self.tensor_shapes if name.endswith("_proj.weight") or name == "lm_head.weight")

    @property
    def parameters(self) -> int:
        """Number of parameters of the latent model."""
        return sum(math.prod(shape) for shape in self.tensor_shapes.values())

    @property
    def ternary_weights(self) -> int:
        """Number of ternary weights, head included: the multiply-free additions of one token."""
        shapes = self.tensor_shapes
        return sum(math.prod(shapes[name]) for name in self.ternary_names)

    @property
    def state_values(self) -> int:
        """Number of float32 values that carry all context from one token to the next."""
        return self.num_hidden_layers * self.mixer_size


def _projection(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.norm.weight": (columns,)}


def _require_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST[name]:
        raise ConfigError(f"{name} {value!r} is not a count", f"choose a whole number from 1 to {LARGEST[name]}")


def _require_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 < value <= sys.float_info.max):
        raise ConfigError(f"{name} {value!r} is not a positive number", "choose a finite number above 0")


def _require_token(name: str, value: object, vocab_size: int) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < vocab_size:
        raise ConfigError(f"{name} {value!r} is not a token id", f"choose 0 to {vocab_size - 1}, or null")


# Published models (arXiv 2406.02528, table 1); 374,108,160 / 1,364,779,008 / 2,702,357,504 parameters.
PRESETS = {
    "370m": ModelConfig(hidden_size=1024, num_hidden_layers=24),
    "1.3b": ModelConfig(hidden_size=2048, num_hidden_layers=24),
    "2.7b": ModelConfig(hidden_size=2560, num_hidden_layers=32),
}


def preset(name: str) -> ModelConfig:
    """The shape of a published model by its short name, whatever the case."""
    try:
        return PRESETS[name.lower()]
    except KeyError:
        raise ConfigError(f"unknown preset {name!r}", f"choose one of {', '.join(PRESETS)}") from None

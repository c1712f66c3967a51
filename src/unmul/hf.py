"""Transformers: after `import unmul.hf`, the Auto classes load, save, train and generate with these models.

The model is the one of unmul.model under the same parameter names; here is only what Transformers asks for.
"""

# B batch, T time, D width, E width of the token mixer, V vocabulary, L layers

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, GenerationMixin
from transformers.cache_utils import Cache
from transformers.configuration_utils import PretrainedConfig
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel

from unmul.checkpoint import codes_are_fixed
from unmul.config import MODEL_TYPE, ModelConfig
from unmul.errors import CheckpointError, UsageError
from unmul.model import load_model
from unmul.model.bitlinear import BitLinear
from unmul.model.model import Backbone, MatMulFreeLM, initialise
from unmul.ops.ternarise.held import hold_codes

__all__ = ["HGRNBitConfig", "HGRNBitForCausalLM", "RecurrentCache"]

_SHAPE_FIELDS = frozenset(field.name for field in fields(ModelConfig))


class HGRNBitConfig(PretrainedConfig):
    """config.ModelConfig as Transformers wants it: the same fields, defaults and checks."""

    model_type = MODEL_TYPE
    keys_to_ignore_at_inference = ["cache", "past_key_values"]  # noqa: RUF012 - the type that Transformers declares

    def __init__(self, **kwargs: Any) -> None:
        shape = ModelConfig(**{name: value for name, value in kwargs.items() if name in _SHAPE_FIELDS})
        shape = replace(shape, use_shared_norm=False)  # three equal gains here, which training sets free
        super().__init__(**{**kwargs, **asdict(shape)})

    @property
    def shape(self) -> ModelConfig:
        """The model's shape."""
        return ModelConfig(**{name: getattr(self, name) for name in _SHAPE_FIELDS})


class RecurrentCache(Cache):
    """The whole context of a batch: one float32 state [L, B, E] of constant size. The tensor is never written in place,
    so a copy.copy of the cache is a branch of the conversation."""

    def __init__(self, state_LBE: torch.Tensor) -> None:
        super().__init__(layers=[])
        self.state_LBE = state_LBE
        self.seen_tokens = 0

    def __bool__(self) -> bool:
        return True  # its length is that of an empty list of layers

    def advance(self, state_LBE: torch.Tensor, tokens: int) -> None:
        """Take the state after some more tokens."""
        self.state_LBE = state_LBE
        self.seen_tokens += tokens

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Number of tokens read, padding included."""
        return self.seen_tokens

    def reset(self) -> None:
        """Forget every token."""
        self.state_LBE, self.seen_tokens = torch.zeros_like(self.state_LBE), 0

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Let each beam go on from the state of the beam it continues."""
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these members of the batch, in this order."""
        self.state_LBE = self.state_LBE.index_select(1, indices.to(self.state_LBE.device))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each member of the batch."""
        self.state_LBE = self.state_LBE.repeat_interleave(repeats, 1)

    def crop(self, tokens_to_remove: int) -> None:
        """A recurrence cannot step back."""
        raise UsageError(
            "a recurrent state cannot forget its last tokens", "copy the cache before tokens that may be taken back"
        )

    @property
    def is_croppable(self) -> bool:
        """False: see crop."""
        return False

    @property
    def batch_size(self) -> int:
        """Number of sequences B."""
        return self.state_LBE.shape[1]


class HGRNBitForCausalLM(PreTrainedModel, GenerationMixin):
    """MatMulFreeLM for Transformers, under the name that published config.json files carry."""

    config_class = HGRNBitConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]  # noqa: RUF012 - the type that Transformers declares
    _is_stateful = True  # assisted decoding would have to step back

    def __init__(self, config: HGRNBitConfig) -> None:
        super().__init__(config)
        self.model = Backbone(config.shape)
        self.lm_head = BitLinear(config.hidden_size, config.vocab_size)
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        cache: RecurrentCache | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        past_key_values: RecurrentCache | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Logits, and with labels the mean cross-entropy of each label given the tokens before it.

        Shapes: input_ids [B, T]; attention_mask [B, T], or [B, all tokens so far] of which the last T count;
        labels [B, T], -100 is not counted -> logits [B, T, V], or [B, logits_to_keep, V].
        past_key_values is what Transformers before 5.24 call cache.
        """
        if input_ids is None:
            raise UsageError("input_ids is None", "give token ids: embeddings as input are not supported")
        cache = cache or past_key_values or RecurrentCache(self.model.new_state(input_ids.shape[0]))
        tokens = input_ids.shape[1]
        mask = None if attention_mask is None else attention_mask[:, -tokens:]
        stream: list[torch.Tensor] = []
        x_BTD, delta_BTD, state_LBE = self.model(input_ids, cache.state_LBE, mask, stream)
        normed_BTD = self.model.norm(x_BTD + delta_BTD)
        cache.advance(state_LBE, tokens)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(normed_BTD[:, kept])
        output = CausalLMOutputWithPast(
            None if labels is None else self.loss_function(logits, labels, self.config.vocab_size, **kwargs),
            logits,
            None if use_cache is False else cache,  # by place: the field's name differs between versions
            hidden_states=(*stream, normed_BTD) if output_hidden_states else None,
        )
        return output.to_tuple() if return_dict is False else output

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As in Transformers; latent weights are ternarised once for the whole text, not for every token."""
        with hold_codes():
            return GenerationMixin.generate(cast(Any, self), *args, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> HGRNBitForCausalLM:
        """As in Transformers; a local folder whose codes are fixed (packed or unpacked) gives a model for inference."""
        if pretrained_model_name_or_path is not None and Path(pretrained_model_name_or_path).is_dir():
            folder = Path(pretrained_model_name_or_path)
            if codes_are_fixed(folder):
                return cls._from_fixed(folder, **kwargs)
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @classmethod
    def _from_fixed(cls, folder: Path, **kwargs: Any) -> HGRNBitForCausalLM:
        dtype = kwargs.get("dtype", kwargs.get("torch_dtype"))
        if dtype not in (None, "auto", "float32", torch.float32):
            raise UsageError(f"dtype {dtype!r} for a packed model", "leave it out: fixed codes run in float32")
        source = load_model(folder)
        with torch.device("meta"):
            model = cls(HGRNBitConfig.from_pretrained(folder))
        model.model, model.lm_head = source.model, source.lm_head
        if (folder / "generation_config.json").exists():
            model.generation_config = GenerationConfig.from_pretrained(folder)
        device = kwargs.get("device_map")
        return model.eval().to(device if isinstance(device, str | torch.device) and device != "auto" else "cpu")

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """Write a latent folder in the published layout; a model of fixed codes has no latent weights to write."""
        if not isinstance(self.lm_head, BitLinear):
            raise CheckpointError("a packed model has no latent weights to save", "copy the folder it came from")
        super().save_pretrained(save_directory, *args, **kwargs)

    def get_input_embeddings(self) -> torch.nn.Embedding:
        """The embeddings, full precision and untied."""
        return self.model.embeddings

    def set_input_embeddings(self, value: torch.nn.Module) -> None:
        """Put other embeddings in place."""
        self.model.embeddings = value

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # forward makes a RecurrentCache

    def _initialize_weights(self, module: torch.nn.Module, is_custom_code: bool = False) -> None:
        # Called for every module, the model last, with torch.nn.init made to spare what was loaded.
        if module is self:  # has the parameters of MatMulFreeLM under the same names
            initialise(cast(MatMulFreeLM, self))


AutoConfig.register(MODEL_TYPE, HGRNBitConfig)
AutoModelForCausalLM.register(HGRNBitConfig, HGRNBitForCausalLM)

"""config.ModelConfig: published files are accepted as they are, and nothing that cannot run is."""

import json
from dataclasses import fields

import pytest

from unmul.config import FIXED, OPTIONS, PRESETS, ModelConfig, preset
from unmul.errors import ConfigError

PARAMETERS = {"370m": 374_108_160, "1.3b": 1_364_779_008, "2.7b": 2_702_357_504}
TERNARY = {"370m": 341.0, "1.3b": 1298.7, "2.7b": 2619.5}  # millions, with the head
STATE = {"370m": 24_576, "1.3b": 49_152, "2.7b": 81_920}
TENSORS = {"370m": 365, "1.3b": 365, "2.7b": 485}

# config.json as published for each size (transformers 4.40.2).
PUBLISHED = {
    name: {
        "_name_or_path": "ridger/hgrn_bit_3B_100B_realbit",
        "architectures": ["HGRNBitForCausalLM"],
        "attn_mode": "fused_recurrent",
        "bos_token_id": 1,
        "conv_size": 4,
        "eos_token_id": 2,
        "expand_ratio": 1,
        "fuse_cross_entropy": True,
        "hidden_act": "swish",
        "hidden_ratio": 4,
        "hidden_size": width,
        "initializer_range": 0.02,
        "intermediate_size": None,
        "max_position_embeddings": 2048,
        "model_type": "hgrn_bit",
        "num_heads": 1,
        "num_hidden_layers": layers,
        "pad_token_id": None,
        "rms_norm_eps": 1e-06,
        "share_conv_kernel": True,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.40.2",
        "use_cache": True,
        "use_lower_bound": True,
        "use_short_conv": False,
        "vocab_size": 32000,
    }
    for name, width, layers in (("370m", 1024, 24), ("1.3b", 2048, 24), ("2.7b", 2560, 32))
}

# What transformers 4.40 adds when it writes a config in full instead of its differences from the defaults.
FULL_4_40 = {
    "return_dict": True, "output_hidden_states": False, "output_attentions": False, "torchscript": False,
    "use_bfloat16": False, "tf_legacy_loss": False, "pruned_heads": {}, "chunk_size_feed_forward": 0,
    "is_encoder_decoder": False, "is_decoder": False, "cross_attention_hidden_size": None, "add_cross_attention": False,
    "tie_encoder_decoder": False, "max_length": 20, "min_length": 0, "do_sample": False, "early_stopping": False,
    "num_beams": 1, "num_beam_groups": 1, "diversity_penalty": 0.0, "temperature": 1.0, "top_k": 50, "top_p": 1.0,
    "typical_p": 1.0, "repetition_penalty": 1.0, "length_penalty": 1.0, "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0, "bad_words_ids": None, "num_return_sequences": 1, "output_scores": False,
    "return_dict_in_generate": False, "forced_bos_token_id": None, "forced_eos_token_id": None,
    "remove_invalid_values": False, "exponential_decay_length_penalty": None, "suppress_tokens": None,
    "begin_suppress_tokens": None, "finetuning_task": None, "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1}, "tokenizer_class": None, "prefix": None, "sep_token_id": None,
    "decoder_start_token_id": None, "task_specific_params": None, "problem_type": None,
}  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_preset_has_the_published_counts(name: str) -> None:
    config = preset(name)
    assert config.parameters == PARAMETERS[name]
    assert config.state_values == STATE[name]
    assert len(config.tensor_shapes) == TENSORS[name]
    assert round(config.ternary_weights / 1e6, 1) == TERNARY[name]


@pytest.mark.parametrize("name", PRESETS)
def test_published_config_is_accepted_as_it_is(name: str) -> None:
    assert ModelConfig.from_dict(PUBLISHED[name]) == preset(name)
    assert ModelConfig.from_dict({**FULL_4_40, **PUBLISHED[name]}) == preset(name)


@pytest.mark.parametrize(("width", "hidden"), [(1024, 2816), (2048, 5632), (2560, 6912), (1, 256), (96, 256)])
def test_hidden_width_of_the_channel_mixer(width: int, hidden: int) -> None:
    assert ModelConfig(hidden_size=width).ffn_size == hidden
    assert ModelConfig(hidden_size=width, intermediate_size=7).ffn_size == 7


def test_dict_round_trip_through_json() -> None:
    config = ModelConfig(hidden_size=96, intermediate_size=100, pad_token_id=0, use_lower_bound=False)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_options_are_written_only_where_they_are_on() -> None:
    assert not set(OPTIONS) & set(ModelConfig().to_dict())
    for name in OPTIONS:
        config = ModelConfig(**{name: True})
        assert config.to_dict() == {**ModelConfig().to_dict(), name: True}
        assert ModelConfig.from_dict(config.to_dict()) == config


def test_every_default_is_the_published_one() -> None:
    assert ModelConfig.from_dict({}) == ModelConfig()
    for field in fields(ModelConfig):
        if field.name in OPTIONS:
            assert field.default is False
        elif field.name not in ("hidden_size", "num_hidden_layers"):
            assert field.default == PUBLISHED["1.3b"][field.name], field.name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("expand_ratio", 0),
        ("expand_ratio", 1.5),
        ("expand_ratio", 65),
        ("num_heads", 8),
        ("use_short_conv", True),
        ("tie_word_embeddings", True),
        ("hidden_size", 0),
        ("hidden_size", 1.5),
        ("hidden_size", True),
        ("num_hidden_layers", -1),
        ("vocab_size", "32000"),
        ("intermediate_size", 0),
        ("hidden_ratio", 0),
        ("rms_norm_eps", float("nan")),
        ("rms_norm_eps", None),
        ("initializer_range", float("inf")),
        ("bos_token_id", 32000),
        ("eos_token_id", -1),
        ("pad_token_id", "0"),
        ("use_lower_bound", 1),
        ("use_shared_norm", "yes"),
        ("use_state_norm", 1),
    ],
)
def test_value_that_cannot_run_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelConfig.from_dict({name: value})
    assert name in caught.value.problem
    assert repr(value) in caught.value.problem
    assert caught.value.remedy


def test_unsupported_fields_are_those_that_published_weights_never_use() -> None:
    for config in PUBLISHED.values():
        assert {name: config[name] for name in FIXED} == FIXED


def test_unknown_field_foreign_model_and_unknown_preset_are_refused() -> None:
    with pytest.raises(ConfigError, match="hiden_size"):
        ModelConfig.from_dict({"hiden_size": 64})
    with pytest.raises(ConfigError, match="llama"):
        ModelConfig.from_dict({"model_type": "llama"})
    with pytest.raises(ConfigError, match=r"7b.*370m, 1\.3b, 2\.7b"):
        preset("7b")
    assert preset("370M") == preset("370m")


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 10**12},
        {"hidden_size": 10**400},
        {"hidden_ratio": 1e308},
        {"hidden_ratio": 10**6},
        {"rms_norm_eps": 10**400},
    ],
    ids=lambda change: next(iter(change)),
)
def test_numbers_that_no_machine_can_count_to_are_refused_at_once(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        ModelConfig.from_dict(change)

"""The C library against Python on the same folders: logits and samples to the bit, refusals."""

# T tokens, V vocabulary, L layers, E width of the token mixer

import ctypes
import json
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clibrary import (
    BAD_ARGUMENT,
    BUILD,
    CANNOT_READ,
    DAMAGED,
    REPOSITORY,
    UNSUPPORTED,
    Failed,
    Info,
    Library,
    built_library,
    data,
)
from models import TINY, WIDE, latent_folder

import unmul
from unmul.checkpoint import PackedCheckpoint, pack
from unmul.checkpoint.tensorfile import TensorFile
from unmul.config import ModelConfig
from unmul.engine.cpu import CpuEngine
from unmul.engine.naive import forget_bounds
from unmul.engine.sampler import Sampler, SamplingParams
from unmul.errors import UnmulError
from unmul.runtime.model import embedded_model

pytestmark = pytest.mark.slow  # the library is built


@pytest.fixture(scope="module")
def library() -> Library:
    return Library(built_library())


CONFIGS = [
    ModelConfig(vocab_size=17, hidden_size=1, intermediate_size=3, num_hidden_layers=1, use_lower_bound=False),
    ModelConfig(vocab_size=131, hidden_size=42, intermediate_size=77, num_hidden_layers=3, rms_norm_eps=1e-5),
    ModelConfig(vocab_size=300, hidden_size=65, hidden_ratio=2.5, num_hidden_layers=5, bos_token_id=None, conv_size=7),
    replace(TINY, use_shared_norm=True, use_state_norm=True),
    WIDE,
    replace(WIDE, expand_ratio=3, intermediate_size=300, use_shared_norm=True, use_state_norm=True),
]


@pytest.mark.parametrize("embeddings", ["int8", "bf16"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"D{config.hidden_size}-E{config.mixer_size}")
def test_logits_and_states_equal_pythons_to_the_bit(library, tmp_path, config, embeddings):
    pack(latent_folder(tmp_path / "latent", config), tmp_path / "packed", embeddings=embeddings)
    engine, model = (
        CpuEngine(PackedCheckpoint.open(tmp_path / "packed"), threads=1),
        library.open(tmp_path / "packed", 2),
    )
    ids = np.random.default_rng(0).integers(0, config.vocab_size, 300).tolist()
    expected, state = engine.new_state(), engine.new_state()
    logits = engine.forward(ids, expected, every=True)
    assert (library.forward(model, ids[:150], state, 131) == logits[19:150]).all(), "rows reach over a chunk"
    library.forward(model, ids[150:-1], state, 0)
    assert (library.forward(model, ids[-1:], state, 1) == logits[-1]).all()
    assert (state == expected).all()
    info = library.info(model)
    assert (info.layers, info.width, info.vocabulary) == (
        config.num_hidden_layers,
        config.hidden_size,
        config.vocab_size,
    )
    assert info.begin_token == config.begin_token_id
    assert (info.end_token, info.threads) == (config.eos_token_id, 2)
    assert (info.weight_bytes, info.state_values) == (engine.weight_bytes, expected.size)
    library.free("model", model)


def test_a_model_in_memory_is_the_model_of_the_folder(library, packed):
    config, weights = ((packed / name).read_bytes() for name in ("config.json", "model.safetensors"))
    sizes = [ctypes.c_size_t(len(part)) for part in (config, weights)]
    model = library.new("model_open_memory", config, sizes[0], weights, sizes[1], 1)
    engine = CpuEngine(PackedCheckpoint.open(packed))
    state = engine.new_state()
    assert (library.forward(model, [5, 6], state, 1) == engine.forward([5, 6], engine.new_state())).all()


def test_the_sampler_draws_what_pythons_draws(library):
    random_logits = np.random.default_rng(3)
    cases = [(0, 0, 1), (0.8, 0, 0.95), (1.5, 40, 1), (1, 7, 0.5)]
    for temperature, top_k, top_p in cases:
        twin = Sampler(SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, seed=2**64 - 3))
        numbers = ctypes.c_double(temperature), top_k, ctypes.c_double(top_p), ctypes.c_uint64(2**64 - 3)
        sampler, token = library.new("sampler_new", *numbers), ctypes.c_int32()
        for _ in range(200):
            logits = random_logits.normal(0, 3, 500).astype(np.float32)
            library.call("sample", sampler, data(logits), ctypes.c_size_t(500), ctypes.byref(token))
            assert token.value == twin.sample(logits)


def edited(folder: Path, target: Path, **fields: object) -> Path:
    """A packed folder whose config.json has other fields; ... takes one away."""
    shutil.copytree(folder, target)
    raw = json.loads((target / "config.json").read_text()) | fields
    (target / "config.json").write_text(json.dumps({name: value for name, value in raw.items() if value is not ...}))
    return target


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"rms_norm_eps": 1e-5}, DAMAGED, "checksum"),
        ({"hidden_size": 43}, DAMAGED, "checksum"),
        ({"use_lower_bound": False}, DAMAGED, "checksum"),
        ({"hidden_size": 0}, DAMAGED, "hidden_size is not a count"),
        ({"hidden_size": "42"}, DAMAGED, "hidden_size is not a count"),
        ({"vocab_size": 2**40}, DAMAGED, "vocab_size is not a count"),
        ({"num_heads": 2}, DAMAGED, "num_heads has a value that is not supported"),
        ({"expand_ratio": 0}, DAMAGED, "expand_ratio is not a count"),
        ({"expand_ratio": 2}, DAMAGED, "checksum"),
        ({"expand_ratio": 2**30}, DAMAGED, "hidden_size times expand_ratio is more than an int32 sum can hold"),
        ({"bos_token_id": 131}, DAMAGED, "bos_token_id is not a token id"),
        ({"model_type": "llama"}, UNSUPPORTED, "model_type"),
        ({"quantization_config": ...}, UNSUPPORTED, "not packed"),
        ({"quantization_config": {"quant_method": "unmul", "version": 2}}, UNSUPPORTED, "another version"),
    ],
)
def test_another_config_is_refused_by_both(library, packed, tmp_path, fields, status, words):
    folder = edited(packed, tmp_path / "edited", **fields)
    with pytest.raises(Failed, match=f"{status} .*{words}"):
        library.open(folder)
    with pytest.raises(UnmulError):
        PackedCheckpoint.open(folder)


def test_a_field_that_means_nothing_is_passed_over(library, packed, tmp_path):
    library.free("model", library.open(edited(packed, tmp_path / "edited", transformers_version="9", hidden_ratio=4.0)))


def with_weights(folder: Path, target: Path, weights: bytes) -> Path:
    """A packed folder with other weights and the checksum that belongs to them."""
    shutil.copytree(folder, target)
    (target / "model.safetensors").write_bytes(weights)
    from unmul.checkpoint.packed import _checksum

    config = json.loads((target / "config.json").read_text())
    shape = PackedCheckpoint.open(folder).config
    config["quantization_config"]["checksum"] = _checksum(target / "model.safetensors", shape, "int8")
    (target / "config.json").write_text(json.dumps(config))
    return target


def test_every_damage_of_the_header_is_refused_by_both(library, packed, tmp_path):
    weights = (packed / "model.safetensors").read_bytes()
    length = int.from_bytes(weights[:8], "little")
    swapped = weights.replace(b'"model.norm.weight"', b'"model.mron.weight"')
    halves = weights.replace(b'"BF16"', b'"F16" ', 1)
    damaged = [b"", weights[:7], weights[:100], weights[:-1], weights + b"\0", swapped, halves]
    damaged += [(length + by).to_bytes(8, "little") + weights[8:] for by in (-8, 1, 2**40, 2**63)]
    damaged += [
        weights.replace(b'"shape":[131]', b'"shape":[-13]'),
        weights.replace(b'"data_offsets":[0', b'"data_offsets":[1'),
    ]
    for index, content in enumerate(damaged):
        assert content != weights
        folder = with_weights(packed, tmp_path / str(index), content)
        with pytest.raises(Failed, match=f"[{CANNOT_READ}{DAMAGED}] "):
            library.open(folder)
        with pytest.raises(UnmulError):
            PackedCheckpoint.open(folder)


@pytest.mark.parametrize(
    ("tensor", "content", "words"),
    [
        ("lm_head.weight_scale", np.float32(np.nan).tobytes(), "scale of lm_head"),
        ("lm_head.weight_scale", np.float32(0).tobytes(), "scale of lm_head"),
        ("model.norm.weight", b"\xc0\x7f", "model.norm.weight holds NaN"),
        ("model.layers.1.mlp.gate_proj.weight", b"\xf3", "gate_proj is not five ternary digits"),
        ("model.embeddings.weight_scale", np.float32(np.inf).tobytes(), "not finite"),
    ],
)
def test_numbers_that_no_packing_writes_are_refused(library, packed, tmp_path, tensor, content, words):
    weights = bytearray((packed / "model.safetensors").read_bytes())
    opened = TensorFile(packed / "model.safetensors")
    start = opened._offsets[tensor]
    weights[start : start + len(content)] = content
    with pytest.raises(Failed, match=f"{DAMAGED} .*{words}"):
        library.open(with_weights(packed, tmp_path / "bad", bytes(weights)))


def test_a_flipped_bit_anywhere_is_refused(library, packed, tmp_path):
    shutil.copytree(packed, tmp_path / "bad")
    weights = (packed / "model.safetensors").read_bytes()
    for at in random.Random(0).sample(range(len(weights)), 40):
        changed = bytearray(weights)
        changed[at] ^= 1 << at % 8
        (tmp_path / "bad" / "model.safetensors").write_bytes(changed)
        with pytest.raises(Failed, match=f"{DAMAGED} .*checksum"):
            library.open(tmp_path / "bad")


def test_a_missing_folder_and_wrong_arguments_are_told(library, packed, tmp_path):
    with pytest.raises(Failed, match=f"{CANNOT_READ} .*nowhere/config.json cannot be read"):
        library.open(tmp_path / "nowhere")
    with pytest.raises(Failed, match=f"{BAD_ARGUMENT} threads"):
        library.open(packed, 1025)
    model = library.open(packed)
    state = np.zeros(3 * 42, np.float32)
    for ids, rows in (([131], 1), ([-1], 1), ([], 0), ([1], 2)):
        with pytest.raises(Failed, match=f"{BAD_ARGUMENT} "):
            library.forward(model, ids, state, rows)
    for numbers in ((-1, 0, 1), (np.inf, 0, 1), (1, -1, 1), (1, 0, 0), (1, 0, 1.1)):
        with pytest.raises(Failed, match=f"{BAD_ARGUMENT} t"):
            library.new("sampler_new", ctypes.c_double(numbers[0]), numbers[1], ctypes.c_double(numbers[2]), 0)
    sampler = library.new("sampler_new", ctypes.c_double(0), 0, ctypes.c_double(1), 0)
    with pytest.raises(Failed, match="NaN"):
        library.call("sample", sampler, data(np.array([np.nan], np.float32)), ctypes.c_size_t(1), ctypes.byref(Info()))


def test_forget_bounds_are_those_of_the_definition(packed):
    opened = PackedCheckpoint.open(packed)
    bounds = forget_bounds(opened)
    powers = np.exp(opened.dense("model.lower_bounds").astype(np.longdouble))
    exact = np.cumsum(powers / powers.sum(0), 0) - powers[0] / powers.sum(0)
    assert bounds.dtype == np.float32
    assert np.abs(bounds - exact).max() < 6e-8


def test_the_c_program_writes_what_python_writes(library, tmp_path):
    program = tmp_path / "generate"
    flags = [
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pedantic",
        f"-I{REPOSITORY / 'csrc'}",
        f"-L{BUILD}",
        "-lunmul",
    ]
    source = REPOSITORY / "examples" / "c" / "generate.c"
    subprocess.run(["cc", str(source), *flags, f"-Wl,-rpath,{BUILD}", "-o", str(program)], check=True)
    done = subprocess.run(
        [program, embedded_model(), "Once upon a time", "60"], capture_output=True, text=True, check=True
    )
    greedy = SamplingParams(temperature=0)
    pieces = unmul.load(threads=1).generate("Once upon a time", max_new_tokens=60, sampling=greedy)
    assert done.stdout.removesuffix("\n") == "".join(pieces)
    wrong = subprocess.run([program, tmp_path, "Once", "1"], capture_output=True, text=True)
    assert (wrong.returncode, "config.json cannot be read" in wrong.stderr) == (2, True)

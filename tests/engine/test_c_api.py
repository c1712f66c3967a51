"""The C library against Python on the same folders: logits and samples to the bit, texts, refusals."""

# T tokens, V vocabulary, L layers, D width

import ctypes
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clibrary import BUILD, REPOSITORY, Info, built_library
from models import latent_folder
from speakers import SENTENCES
from tokenizers import Tokenizer

import unmul
from unmul.checkpoint import PackedCheckpoint, pack
from unmul.checkpoint.tensorfile import TensorFile
from unmul.config import ModelConfig
from unmul.data.tokenizer import save_tokenizer, train_tokenizer
from unmul.engine.cpu import CpuEngine
from unmul.engine.naive import forget_bounds
from unmul.engine.sampler import Sampler, SamplingParams
from unmul.errors import UnmulError
from unmul.runtime.model import embedded_model

pytestmark = pytest.mark.slow  # the library is built

BAD_ARGUMENT, CANNOT_READ, DAMAGED, UNSUPPORTED = 1, 2, 3, 4


class Failed(Exception):
    """A status of the library, and its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")


class Library:
    """unmul.h with exceptions."""

    def __init__(self, path: Path) -> None:
        self._c = ctypes.CDLL(str(path))
        self._c.unmul_last_error.restype = ctypes.c_char_p
        self._c.unmul_model_get_info.restype = Info
        for name in ("model", "sampler", "tokenizer"):
            getattr(self._c, f"unmul_{name}_free").argtypes = (ctypes.c_void_p,)

    def call(self, name: str, *arguments: object) -> None:
        status = getattr(self._c, "unmul_" + name)(*arguments)
        if status:
            raise Failed(status, self._c.unmul_last_error().decode())

    def new(self, name: str, *arguments: object) -> ctypes.c_void_p:
        """The object that a function gives through its last pointer."""
        found = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(found))
        return found

    def free(self, kind: str, thing: ctypes.c_void_p) -> None:
        getattr(self._c, f"unmul_{kind}_free")(thing)

    def open(self, folder: Path, threads: int = 1) -> ctypes.c_void_p:
        return self.new("model_open", os.fsencode(folder), threads)

    def info(self, model: ctypes.c_void_p) -> Info:
        return self._c.unmul_model_get_info(model)

    def forward(self, model: ctypes.c_void_p, ids: list[int], state: np.ndarray, rows: int) -> np.ndarray:
        logits = np.full((rows, self.info(model).vocabulary), np.nan, np.float32)
        tokens = np.array(ids, np.int32)
        size = ctypes.c_size_t(len(ids))
        self.call("forward", model, data(state), data(tokens), size, data(logits), ctypes.c_size_t(rows))
        return logits

    def encode(self, tokenizer: ctypes.c_void_p, text: str) -> list[int]:
        raw, count = text.encode(), ctypes.c_size_t()
        ids = np.empty(len(raw), np.int32)
        size = ctypes.c_size_t(len(raw))
        self.call("encode", tokenizer, raw, size, data(ids), size, ctypes.byref(count))
        return ids[: count.value].tolist()

    def token_bytes(self, tokenizer: ctypes.c_void_p, token: int) -> bytes:
        start, size = ctypes.c_void_p(), ctypes.c_size_t()
        self.call("token_bytes", tokenizer, token, ctypes.byref(start), ctypes.byref(size))
        return ctypes.string_at(start.value, size.value) if size.value else b""


def data(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@pytest.fixture(scope="module")
def library() -> Library:
    return Library(built_library())


CONFIGS = [
    ModelConfig(vocab_size=17, hidden_size=1, intermediate_size=3, num_hidden_layers=1, use_lower_bound=False),
    ModelConfig(vocab_size=131, hidden_size=42, intermediate_size=77, num_hidden_layers=3, rms_norm_eps=1e-5),
    ModelConfig(vocab_size=300, hidden_size=65, hidden_ratio=2.5, num_hidden_layers=5, bos_token_id=None, conv_size=7),
]


@pytest.mark.parametrize("embeddings", ["int8", "bf16"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"D{config.hidden_size}")
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


PIECES = [
    "'s", "'ll", "'LL", "'", "''t", " ", "  ", "\t", "\n\n", "\u00a0", "\u2003 ", "\ufeff", "\x85",
    "\x1c", "a", "Bc", " d", "ß", "é", "ǅ", "ʰ", "中", "\U0001d49c", "\U0001f600", "\u200d", "0", "٣",
    "½", "Ⅷ", " 7", "_", "-", "?!", " …", "\0", "\x7f", "<|endoftext|>", "<|endoftext", "|>", "the ",
    "Once upon", "\U0010ffff", "\u0300", "\ue000",
]  # fmt: skip


def test_texts_become_the_tokens_of_the_tokenizers_library(library):
    folder = embedded_model()
    ours, theirs = (
        library.new("tokenizer_open", os.fsencode(folder)),
        Tokenizer.from_file(str(folder / "tokenizer.json")),
    )
    dice = random.Random(1)
    texts = ["", *PIECES, *("".join(dice.choices(PIECES, k=dice.randrange(1, 30))) for _ in range(3000))]
    texts += ["".join(chr(dice.randrange(0xD800)) for _ in range(50)) for _ in range(200)]
    for text in texts:
        assert library.encode(ours, text) == theirs.encode(text, add_special_tokens=False).ids, repr(text)


def test_every_character_is_cut_as_the_tokenizers_library_cuts_it(library):
    folder = embedded_model()
    ours, theirs = (
        library.new("tokenizer_open", os.fsencode(folder)),
        Tokenizer.from_file(str(folder / "tokenizer.json")),
    )
    every = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    text = "".join(f"e{c} {c}1" for c in every[::5])
    assert library.encode(ours, text) == theirs.encode(text, add_special_tokens=False).ids


def test_tokens_become_the_bytes_that_the_tokenizers_library_decodes(library):
    folder = embedded_model()
    ours, theirs = (
        library.new("tokenizer_open", os.fsencode(folder)),
        Tokenizer.from_file(str(folder / "tokenizer.json")),
    )
    dice = random.Random(2)
    for _ in range(300):
        ids = [dice.randrange(2048) for _ in range(20)]
        text = b"".join(library.token_bytes(ours, token) for token in ids).decode(errors="replace")
        assert text == theirs.decode(ids, skip_special_tokens=True)


def test_a_long_word_is_cheap(library):
    tokenizer = library.new("tokenizer_open", os.fsencode(embedded_model()))
    text = "a" * 200_000  # squared, this would take minutes
    assert b"".join(library.token_bytes(tokenizer, token) for token in library.encode(tokenizer, text)).decode() == text


@pytest.mark.parametrize(
    ("edit", "status", "words"),
    [
        (lambda raw: raw["pre_tokenizer"].update(add_prefix_space=True), UNSUPPORTED, "add_prefix_space"),
        (lambda raw: raw["pre_tokenizer"].update(type="Whitespace"), UNSUPPORTED, "pre_tokenizer"),
        (lambda raw: raw["model"].update(type="Unigram"), UNSUPPORTED, "model"),
        (lambda raw: raw["model"].update(byte_fallback=True), UNSUPPORTED, "byte_fallback"),
        (lambda raw: raw.update(normalizer={"type": "NFC"}), UNSUPPORTED, "normalizer"),
        (lambda raw: raw["added_tokens"][0].update(lstrip=True), UNSUPPORTED, "lstrip"),
        (lambda raw: raw["model"]["vocab"].pop("a"), DAMAGED, "lacks a byte"),
        (lambda raw: raw["model"]["vocab"].update(a=-1), DAMAGED, "no whole number"),
        (lambda raw: raw["model"]["vocab"].update(a=2**40), DAMAGED, "no whole number"),
        (lambda raw: raw["model"].pop("merges"), DAMAGED, "merges"),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(library, tmp_path, edit, status, words):
    save_tokenizer(train_tokenizer(SENTENCES, 300), tmp_path, 0)
    raw = json.loads((tmp_path / "tokenizer.json").read_text())
    edit(raw)
    (tmp_path / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(Failed, match=f"{status} .*{words}"):
        library.new("tokenizer_open", os.fsencode(tmp_path))


@pytest.mark.parametrize("text", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"])
def test_text_that_is_not_utf8_is_refused(library, text):
    tokenizer = library.new("tokenizer_open", os.fsencode(embedded_model()))
    with pytest.raises(Failed, match=f"{BAD_ARGUMENT} .*UTF-8"):
        library.call(
            "encode", tokenizer, text, ctypes.c_size_t(len(text)), None, ctypes.c_size_t(0), ctypes.byref(Info())
        )


@pytest.mark.parametrize(
    "text", ["", "{", '{"a":1,}', '{"a" 1}', "[01]", "[1.]", "[1e]", '["\\x"]', '["\\ud800"]', "[" * 200, "nul"]
)
def test_what_is_no_json_is_refused(library, tmp_path, text):
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(Failed, match=f"[{CANNOT_READ}{DAMAGED}] "):
        library.new("tokenizer_open", os.fsencode(tmp_path))


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

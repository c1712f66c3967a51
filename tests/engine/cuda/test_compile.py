"""NVIDIA's compiler takes every kernel, without a GPU: registers do not spill, and nothing is compiled twice."""

import re
from pathlib import Path

import pytest

from unmul.config import ModelConfig, preset
from unmul.engine.cuda import compile as compiler
from unmul.engine.cuda.decode import decode_defines
from unmul.engine.cuda.prefill import prefill_defines
from unmul.errors import EngineError

pytest.importorskip("cuda.bindings", reason="the extra cuda is not installed")

SHARED_BYTES = {"sm_80": 163 << 10, "sm_90": 227 << 10}  # of a block
CONFIGS = {
    "1.3b": preset("1.3b"),
    "expanded": ModelConfig(
        vocab_size=8192, hidden_size=512, intermediate_size=896, num_hidden_layers=15, expand_ratio=2
    ),
}


def shape(config: ModelConfig) -> dict[str, int | str]:
    return {
        "UNMUL_WIDTH": config.hidden_size, "UNMUL_MIXER": config.mixer_size, "UNMUL_HIDDEN": config.ffn_size,
        "UNMUL_VOCABULARY": config.vocab_size, "UNMUL_LAYERS": config.num_hidden_layers, "UNMUL_EPS": "1e-6f",
        "UNMUL_INT8_EMBEDDINGS": 1,
    }  # fmt: skip


def spilled(source: str, arch: str, defines: dict[str, int | str]) -> dict[str, int]:
    """Bytes that each kernel stores because it has too few registers."""
    code, log = compiler.compile_source(source, arch, defines)
    assert code.startswith(b"\x7fELF")
    names, stores = re.findall(r"entry function '(\w+)'", log), re.findall(r"(\d+) bytes spill stores", log)
    return dict(zip(names, map(int, stores), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("arch", SHARED_BYTES)
@pytest.mark.parametrize(
    ("name", "groups", "fused"), [("1.3b", 1, True), ("1.3b", 1, False), ("1.3b", 2, False), ("expanded", 1, True)]
)
def test_the_decoder_keeps_its_registers(arch: str, name: str, groups: int, fused: bool) -> None:
    defines, shared = decode_defines(CONFIGS[name], SHARED_BYTES[arch], groups, fused)
    assert shared <= SHARED_BYTES[arch]
    assert spilled("decode.cu", arch, {**shape(CONFIGS[name]), **defines}) == {"decode": 0}


@pytest.mark.slow
def test_the_decoder_of_64_texts_compiles() -> None:
    defines, _ = decode_defines(preset("2.7b"), SHARED_BYTES["sm_80"], 8, False)
    assert spilled("decode.cu", "sm_80", {**shape(preset("2.7b")), **defines})["decode"] < 512


@pytest.mark.slow
@pytest.mark.parametrize("arch", SHARED_BYTES)
@pytest.mark.parametrize(("name", "groups"), [("1.3b", 2), ("1.3b", 8), ("expanded", 8)])
def test_the_kernels_of_prefill_keep_their_registers(arch: str, name: str, groups: int) -> None:
    found = spilled("prefill.cu", arch, {**shape(CONFIGS[name]), **prefill_defines(SHARED_BYTES[arch], groups)})
    assert {"scan", "mix_in", "mix_out", "channel_in", "channel_out", "head"} <= found.keys()
    assert set(found.values()) == {0}


def test_what_was_compiled_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiler.CACHE_VARIABLE, str(tmp_path / "cache"))
    first = compiler.compiled("pack.cu", "sm_80", {})
    (kept,) = (tmp_path / "cache").iterdir()
    monkeypatch.setattr(compiler, "compile_source", None)
    assert compiler.compiled("pack.cu", "sm_80", {}) == first == kept.read_bytes()


def test_other_macros_are_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiler.CACHE_VARIABLE, str(tmp_path))
    for defines in ({}, {"UNUSED": 1}):
        compiler.compiled("pack.cu", "sm_80", defines)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(compiler.CACHE_VARIABLE, str(tmp_path / "file"))
    assert compiler.compiled("pack.cu", "sm_80", {}).startswith(b"\x7fELF")


def test_what_does_not_compile_is_one_error_with_the_compilers_words() -> None:
    with pytest.raises(EngineError, match=r"(?s)decode\.cu does not compile for sm_80 .*UNMUL_WIDTH.*: report it"):
        compiler.compile_source("decode.cu", "sm_80", {})

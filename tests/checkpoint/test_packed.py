"""checkpoint.packed: nothing is lost but what is meant to be, and no damaged file is ever used."""

import errno
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import IO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import TINY, latent_folder, latent_tensors

from unmul import ternary
from unmul.checkpoint import PackedCheckpoint, is_packed, pack, read_config, read_latent, save_latent, unpack
from unmul.checkpoint import latent as latent_module
from unmul.checkpoint import packed as packed_module
from unmul.checkpoint.packed import packed_specs
from unmul.checkpoint.tensorfile import BF16
from unmul.config import ModelConfig
from unmul.errors import CheckpointError, UnmulError

EMBEDDINGS = "model.embeddings.weight"


def packed_tensors(folder: Path) -> dict[str, tuple[str, bytes]]:
    tensors = PackedCheckpoint.open(folder).tensors
    return {name: (str(array.dtype), array.tobytes()) for name, array in tensors.items()}


def copied(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def test_codes_scale_and_the_rest_are_those_of_the_definition(packed: Path) -> None:
    checkpoint = PackedCheckpoint.open(packed)
    for name, weight in latent_tensors().items():
        if name in TINY.ternary_names:
            m = ternary.scale(weight)
            assert checkpoint.scale(name) == m
            assert (checkpoint.codes(name) == ternary.codes(weight, m)).all()
            assert (checkpoint.dense(name) == m * ternary.codes(weight, m)).all()
        elif name != EMBEDDINGS:
            assert (checkpoint.dense(name) == weight.astype(BF16).astype(np.float32)).all()


def test_int8_embeddings_are_within_half_a_step_of_their_row(packed: Path) -> None:
    rows = latent_tensors()[EMBEDDINGS]
    step = np.abs(rows).max(1, keepdims=True) / 127
    assert (np.abs(PackedCheckpoint.open(packed).dense(EMBEDDINGS) - rows) <= 0.5001 * step).all()


def test_bf16_embeddings_by_option(latent: Path, tmp_path: Path) -> None:
    pack(latent, tmp_path / "p", embeddings="bf16")
    checkpoint = PackedCheckpoint.open(tmp_path / "p")
    assert checkpoint.embeddings == "bf16"
    assert (checkpoint.dense(EMBEDDINGS) == latent_tensors()[EMBEDDINGS].astype(BF16)).all()
    with pytest.raises(CheckpointError, match=r"int3.*int8 or bf16"):
        pack(latent, tmp_path / "q", embeddings="int3")


def test_report_counts_bytes_and_bits(latent: Path, tmp_path: Path) -> None:
    report = pack(latent, tmp_path / "p")
    assert report.bytes_before == 4 * TINY.parameters
    assert report.bytes_after == (tmp_path / "p" / "model.safetensors").stat().st_size
    specs = packed_specs(TINY)
    stored = sum(specs[name].nbytes + 4 for name in TINY.ternary_names)
    assert report.bits_per_weight == 8 * stored / TINY.ternary_weights


def test_wide_rows_take_less_than_two_bits() -> None:
    specs = packed_specs(preset := ModelConfig(hidden_size=1024))
    stored = sum(specs[name].nbytes + 4 for name in preset.ternary_names)
    assert 1.6 <= 8 * stored / preset.ternary_weights < 1.605


@pytest.mark.parametrize("embeddings", ["int8", "bf16"])
def test_pack_unpack_pack_gives_the_same_codes_and_scales(latent: Path, tmp_path: Path, embeddings: str) -> None:
    pack(latent, tmp_path / "first", embeddings=embeddings)
    unpack(tmp_path / "first", tmp_path / "unpacked")
    pack(tmp_path / "unpacked", tmp_path / "second", embeddings=embeddings)
    first, second = packed_tensors(tmp_path / "first"), packed_tensors(tmp_path / "second")
    different = [name for name in first if first[name] != second[name]]
    assert [name for name in different if not name.startswith(EMBEDDINGS)] == []
    a, b = (PackedCheckpoint.open(tmp_path / name).dense(EMBEDDINGS) for name in ("first", "second"))
    np.testing.assert_allclose(b, a, rtol=2**-22)


@given(
    st.integers(1, 70), st.integers(1, 140), st.integers(1, 3), st.sampled_from([0, 1e-8, 1, 1e30]), st.integers(0, 99)
)
@settings(max_examples=25, deadline=None)
def test_identity_holds_for_every_width_and_size(
    tmp_path_factory: pytest.TempPathFactory, width: int, hidden: int, expand: int, size: float, seed: int
) -> None:
    config = ModelConfig(
        vocab_size=7, hidden_size=width, intermediate_size=hidden, num_hidden_layers=1, expand_ratio=expand
    )
    tensors = {
        name: array * np.float32(size if name in config.ternary_names else 1)
        for name, array in latent_tensors(config, seed).items()
    }
    root = tmp_path_factory.mktemp("m")
    save_latent(root / "latent", config, tensors.__getitem__)
    pack(root / "latent", root / "first")
    unpack(root / "first", root / "unpacked")
    pack(root / "unpacked", root / "second")
    first, second = PackedCheckpoint.open(root / "first"), PackedCheckpoint.open(root / "second")
    for name in config.ternary_names:
        assert (first.codes(name) == ternary.codes(tensors[name], ternary.scale(tensors[name]))).all()
        assert (first.tensors[name] == second.tensors[name]).all()
        assert first.scale(name) == second.scale(name) == ternary.scale(tensors[name])


def test_packing_without_the_flag_would_shrink_the_scale(packed: Path, tmp_path: Path) -> None:
    """The flag is needed: the identity above is no accident."""
    unpack(packed, tmp_path / "unpacked")
    config, tensors, final = read_latent(tmp_path / "unpacked")
    assert final
    save_latent(tmp_path / "plain", config, tensors.__getitem__)
    pack(tmp_path / "plain", tmp_path / "second")
    name = "lm_head.weight"
    assert PackedCheckpoint.open(tmp_path / "second").scale(name) < 0.9 * PackedCheckpoint.open(packed).scale(name)


def test_packing_twice_is_refused(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="packed already"):
        pack(packed, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_unpacking_a_latent_folder_is_refused_with_the_command(latent: Path, tmp_path: Path) -> None:
    assert not is_packed(latent)
    with pytest.raises(CheckpointError, match="unmul pack"):
        unpack(latent, tmp_path / "x")


def test_source_is_never_its_own_target(tmp_path: Path) -> None:
    folder = latent_folder(tmp_path / "m")
    with pytest.raises(CheckpointError, match="its own source"):
        pack(folder, tmp_path / "." / "m")
    assert read_latent(folder)[0] == TINY
    pack(folder, tmp_path / "p")
    with pytest.raises(CheckpointError, match="its own source"):
        unpack(tmp_path / "p", tmp_path / "p")
    assert is_packed(tmp_path / "p")


def test_folder_of_something_else_is_never_replaced(latent: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        pack(latent, tmp_path)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["model.layers.1.mlp.down_proj.weight", "model.norm.weight", EMBEDDINGS])
def test_nan_is_refused_by_the_name_of_its_tensor(tmp_path: Path, name: str, value: float) -> None:
    tensors = latent_tensors()
    tensors[name].flat[-1] = value
    save_latent(tmp_path / "m", TINY, tensors.__getitem__)
    with pytest.raises(CheckpointError, match=name):
        pack(tmp_path / "m", tmp_path / "p")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("module", [packed_module, latent_module], ids=["packed", "latent"])
def test_full_disk_leaves_the_old_checkpoint(
    packed: Path, latent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType
) -> None:
    def write_some(handle: IO[bytes], *rest: object) -> None:
        handle.write(bytes(1000))
        raise OSError(errno.ENOSPC, "No space left on device")

    old = copied(packed, tmp_path / "m")
    monkeypatch.setattr(module, "write_tensors", write_some)
    with pytest.raises(CheckpointError, match=rf"^{old} cannot be written \(No space left on device\): free space"):
        pack(latent, old) if module is packed_module else unpack(packed, old)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert packed_tensors(old) == packed_tensors(packed)


def test_tokenizer_and_generation_settings_travel_both_ways(tmp_path: Path) -> None:
    folder = latent_folder(tmp_path / "m")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "generation_config.json").write_text('{"top_k": 3}')
    (folder / "optimizer.pt").write_text("")
    pack(folder, tmp_path / "p")
    unpack(tmp_path / "p", tmp_path / "u")
    for target in (tmp_path / "p", tmp_path / "u"):
        assert (target / "tokenizer.json").read_text() == "{}"
        assert (target / "generation_config.json").read_text() == '{"top_k": 3}'
        assert not (target / "optimizer.pt").exists()


def test_weights_with_any_bit_flipped_are_refused(packed: Path, tmp_path: Path) -> None:
    folder = copied(packed, tmp_path / "p")
    whole = (packed / "model.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = [0, 7, 8, 8 + length // 2, 7 + length]
    rng = np.random.default_rng(0)
    for position in [*header, 8 + length, len(whole) - 1, *rng.integers(0, len(whole), 50).tolist()]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        (folder / "model.safetensors").write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            PackedCheckpoint.open(folder)


def test_weights_cut_anywhere_are_refused(packed: Path, tmp_path: Path) -> None:
    folder = copied(packed, tmp_path / "p")
    whole = (packed / "model.safetensors").read_bytes()
    for length in (0, 7, 8, 500, len(whole) // 2, len(whole) - 1):
        (folder / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            PackedCheckpoint.open(folder)
        with pytest.raises(CheckpointError):
            PackedCheckpoint.open(folder, verify=False)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no model\.safetensors"):
        PackedCheckpoint.open(folder)


def test_config_with_a_bit_flipped_in_any_byte_is_refused_or_means_the_same(packed: Path, tmp_path: Path) -> None:
    folder = copied(packed, tmp_path / "p")
    whole = (packed / "config.json").read_bytes()
    refused = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        (folder / "config.json").write_bytes(damaged)
        try:
            checkpoint = PackedCheckpoint.open(folder)
        except UnmulError:
            refused += 1
        else:
            assert checkpoint.config == TINY
            assert checkpoint.embeddings == "int8"
    assert refused > len(whole) / 2


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("version", 2, "version 2"),
        ("quant_method", "gptq", "gptq"),
        ("embeddings", "int4", "int4"),
        ("checksum", None, "damaged"),
    ],
)
def test_foreign_or_later_formats_are_refused(packed: Path, tmp_path: Path, key: str, value, expected: str) -> None:
    folder = copied(packed, tmp_path / "p")
    _, raw = read_config(folder)
    raw["quantization_config"][key] = value
    (folder / "config.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match=expected):
        PackedCheckpoint.open(folder)

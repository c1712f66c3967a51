"""checkpoint.latent: the published layout, in one file or in shards, and what is wrong with a folder that is not."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from models import TINY, WIDE, latent_folder, latent_tensors
from safetensors.torch import load_file, save_file

from unmul.checkpoint import read_latent, save_latent
from unmul.checkpoint.tensorfile import BF16
from unmul.config import ModelConfig
from unmul.errors import CheckpointError, ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def edit(folder: Path, **changes: object) -> None:
    """Change or (with None) remove entries of config.json."""
    raw = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))


def rewrite(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_unequal_gains_where_one_is_promised_are_refused(tmp_path: Path) -> None:
    folder = latent_folder(tmp_path / "m")
    edit(folder, use_shared_norm=True)
    with pytest.raises(CheckpointError, match=r"i, f and g differ in layer 0.*set it to false"):
        read_latent(folder)


@pytest.mark.parametrize("shard_bytes", [1, 20_000, 10**9], ids="shard{}".format)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("config", [TINY, WIDE], ids=["tiny", "wide"])
def test_round_trip(tmp_path: Path, config: ModelConfig, dtype: str, shard_bytes: int) -> None:
    folder = latent_folder(tmp_path / "m", config, dtype=dtype, shard_bytes=shard_bytes)
    found, tensors, final = read_latent(folder)
    assert (found, final) == (config, False)
    kind = np.float32 if dtype == "float32" else BF16
    for name, array in latent_tensors(config).items():
        assert tensors[name].dtype == kind
        assert (tensors[name] == array.astype(kind)).all()


def test_shards_and_their_index_have_the_published_form(tmp_path: Path) -> None:
    folder = latent_folder(tmp_path / "m", shard_bytes=100_000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    assert files == [f"model-{k:05}-of-{len(files):05}.safetensors" for k in range(1, len(files) + 1)]
    assert len(files) > 2
    assert index["metadata"]["total_size"] == 4 * TINY.parameters
    for file in files:
        assert set(load_file(folder / file)) == {name for name, f in index["weight_map"].items() if f == file}


@pytest.mark.parametrize("dtype", DTYPES)
def test_folder_written_by_the_library_is_read(tmp_path: Path, dtype: str) -> None:
    folder = latent_folder(tmp_path / "m")
    rewrite(folder, lambda t: t.update({name: tensor.to(DTYPES[dtype]) for name, tensor in t.items()}))
    _, tensors, _ = read_latent(folder)
    for name, array in latent_tensors().items():
        expected = torch.from_numpy(array).to(DTYPES[dtype]).float().numpy()
        assert (tensors[name].astype(np.float32) == expected).all()


def test_missing_left_over_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    folder = latent_folder(tmp_path / "missing")
    rewrite(folder, lambda t: t.pop("lm_head.norm.weight"))
    with pytest.raises(CheckpointError, match=r"lacks tensor lm_head\.norm\.weight"):
        read_latent(folder)
    folder = latent_folder(tmp_path / "extra")
    rewrite(folder, lambda t: t.update({"model.rotary": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"unknown tensor model\.rotary"):
        read_latent(folder)
    folder = latent_folder(tmp_path / "shape")
    rewrite(folder, lambda t: t.update({"model.norm.weight": torch.zeros(41)}))
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight has shape \[41\].*\[42\]"):
        read_latent(folder)


def test_weights_of_another_token_mixer_are_refused(tmp_path: Path) -> None:
    folder = latent_folder(tmp_path / "m", WIDE)
    edit(folder, expand_ratio=1)
    with pytest.raises(CheckpointError, match=r"model\.lower_bounds has shape \[3, 84\].*\[3, 42\]"):
        read_latent(folder)


def test_many_missing_tensors_are_counted(tmp_path: Path) -> None:
    folder = latent_folder(tmp_path / "m")
    edit(folder, num_hidden_layers=4)
    with pytest.raises(CheckpointError, match="and 12 more"):
        read_latent(folder)


def test_whole_numbers_are_not_weights(tmp_path: Path) -> None:
    folder = latent_folder(tmp_path / "m")
    rewrite(folder, lambda t: t.update({"model.norm.weight": torch.ones(42, dtype=torch.int32)}))
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight has type int32"):
        read_latent(folder)


def test_folder_without_config_weights_or_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a folder"):
        read_latent(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        read_latent(tmp_path)
    (latent_folder(tmp_path / "m") / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor"):
        read_latent(tmp_path / "m")


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", "\xff", "[" * 100_000], ids=["empty", "list", "open", "not-utf8", "deep"]
)
def test_config_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, "latin-1")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_latent(tmp_path)


def test_config_error_names_the_file(tmp_path: Path) -> None:
    edit(latent_folder(tmp_path / "m"), num_heads=2)
    with pytest.raises(ConfigError, match=r"m/config\.json: num_heads 2"):
        read_latent(tmp_path / "m")


@pytest.mark.parametrize("weight_map", [None, [], {"lm_head.weight": "../other"}, {"lm_head.weight": 3}])
def test_index_that_leads_nowhere_is_refused(tmp_path: Path, weight_map: object) -> None:
    folder = latent_folder(tmp_path / "m", shard_bytes=100_000)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(CheckpointError):
        read_latent(folder)


def test_shard_that_is_missing_or_lacks_its_tensor_is_named(tmp_path: Path) -> None:
    folder = latent_folder(tmp_path / "m", shard_bytes=100_000)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    first = min(index["weight_map"].values())
    index["weight_map"]["lm_head.weight"] = first
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=rf"{first} lacks tensor lm_head\.weight"):
        read_latent(folder)
    (folder / first).unlink()
    with pytest.raises(CheckpointError, match=first):
        read_latent(folder)


def test_only_a_checkpoint_is_ever_replaced(tmp_path: Path) -> None:
    latent_folder(tmp_path / "m", seed=1)
    latent_folder(tmp_path / "m", seed=2)
    assert (read_latent(tmp_path / "m")[1]["lm_head.weight"] == latent_tensors(seed=2)["lm_head.weight"]).all()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("")
    with pytest.raises(CheckpointError, match="photos exists and is not a checkpoint"):
        latent_folder(tmp_path / "photos")
    assert (tmp_path / "photos" / "cat.jpg").exists()


def test_unknown_dtype_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"int4.*float32, bfloat16"):
        save_latent(tmp_path / "m", TINY, latent_tensors().__getitem__, dtype="int4")

"""A checkpoint folder on disk: config.json, one or more safetensors files, tokenizer.json."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unmul.checkpoint.tensorfile import Array, TensorFile
from unmul.config import ModelConfig
from unmul.errors import CheckpointError, ConfigError, UnmulError
from unmul.files import write_text

__all__ = [
    "CARD",
    "CONFIG",
    "INDEX",
    "TOKENIZER",
    "WEIGHTS",
    "check_shared_norms",
    "check_target",
    "check_tensors",
    "copy_companions",
    "open_tensors",
    "read_config",
    "read_json",
    "write_config",
]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
GENERATION = "generation_config.json"
CARD = "training.json"  # how the model came to be, for people and for `unmul info`

# Files beside the weights that describe the text and the making, not the numbers: they travel with every conversion.
COMPANIONS = (
    TOKENIZER, GENERATION, "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "chat_template.jinja",
    CARD,
)  # fmt: skip

Raw = dict[str, Any]


def read_config(folder: Path) -> tuple[ModelConfig, Raw]:
    """The model's shape and the whole content of config.json."""
    raw = read_json(folder / CONFIG)
    try:
        return ModelConfig.from_dict(raw), raw
    except ConfigError as error:
        raise ConfigError(f"{folder / CONFIG}: {error.problem}", error.remedy) from None


def read_json(path: Path) -> Raw:
    """A JSON object from a file of a checkpoint folder."""
    if not path.parent.is_dir():
        raise CheckpointError(f"{path.parent} is not a folder", "give the folder that holds config.json")
    try:
        raw = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path.parent} has no {path.name}", "give the folder that holds the checkpoint"
        ) from None
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})", "copy or download it again") from None
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} is not a JSON object", "copy or download it again")
    return raw


def write_config(folder: Path, raw: Mapping[str, Any]) -> None:
    """Write config.json."""
    write_text(folder / CONFIG, json.dumps(raw, indent=2) + "\n")


def open_tensors(folder: Path) -> dict[str, Array]:
    """Every tensor of a folder, one file or shards with an index, as views of the mapped files."""
    if (folder / WEIGHTS).exists():
        return dict(TensorFile(folder / WEIGHTS))
    if not (folder / INDEX).exists():
        raise CheckpointError(f"{folder} has neither {WEIGHTS} nor {INDEX}", "give the folder that holds the weights")
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{folder / INDEX} has no weight_map", "copy or download it again")
    files = sorted({str(name) for name in weight_map.values()})
    if any(Path(name).name != name for name in files):
        raise CheckpointError(f"{folder / INDEX} names files outside the folder", "copy or download it again")
    shards = {name: TensorFile(folder / name) for name in files}
    for name, shard in weight_map.items():
        if name not in shards[str(shard)]:
            raise CheckpointError(f"{folder / shard} lacks tensor {name}", "copy or download it again")
    return {name: shards[shard][name] for name, shard in weight_map.items()}


def check_tensors(folder: Path, found: Mapping[str, Array], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse a folder whose tensors are missing, left over, or of a wrong shape, naming the first few."""
    _refuse(folder, "lacks", (name for name in expected if name not in found))
    _refuse(folder, "has an unknown", (name for name in found if name not in expected))
    for name, shape in expected.items():
        if found[name].shape != shape:
            raise CheckpointError(
                f"{folder}: tensor {name} has shape {list(found[name].shape)}, config.json asks for {list(shape)}",
                "use the config.json that belongs to these weights",
            )


def check_shared_norms(folder: Path, tensors: Mapping[str, Array], config: ModelConfig) -> None:
    """Refuse a folder that promises one gain for i, f and g (use_shared_norm) and holds different ones."""
    for layer in range(config.num_hidden_layers if config.use_shared_norm else 0):
        i, f, g = (tensors[f"model.layers.{layer}.attn.{gate}_proj.norm.weight"] for gate in "ifg")
        if not (np.array_equal(i, f) and np.array_equal(i, g)):
            raise CheckpointError(
                f"{folder}: the gains of i, f and g differ in layer {layer}, but use_shared_norm is true",
                f"set it to false in {CONFIG}",
            )


def _refuse(folder: Path, what: str, names: Iterable[str]) -> None:
    listed = list(names)
    if listed:
        more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
        raise CheckpointError(
            f"{folder} {what} tensor {', '.join(listed[:3])}{more}", "use the config.json that belongs to these weights"
        )


def check_target(folder: Path, source: Path | None = None) -> None:
    """Refuse to write over anything but an empty folder or an older checkpoint.

    With a source, a conversion writes: it may not replace that, nor a folder with files that no conversion writes.
    """
    if source is not None and folder.resolve() == source.resolve():
        raise CheckpointError(f"{folder} would replace its own source", "choose another folder")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        read_config(folder)
    except UnmulError:
        raise CheckpointError(f"{folder} exists and is not a checkpoint", "choose another folder") from None
    names = sorted(path.name for path in folder.iterdir() if path.suffix != ".safetensors")
    foreign = [name for name in names if name not in (CONFIG, INDEX, *COMPANIONS)]
    if source is not None and foreign:
        raise CheckpointError(f"{folder} also holds {foreign[0]}, which would be lost", "choose another folder")


def copy_companions(source: Path, target: Path) -> None:
    """Copy tokenizer and generation files, where there are any."""
    for name in COMPANIONS:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)

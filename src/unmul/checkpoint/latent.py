"""Latent checkpoints: the published layout, 16- or 32-bit weights that are ternarised when used."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unmul.checkpoint.folder import (
    INDEX,
    WEIGHTS,
    check_shared_norms,
    check_target,
    check_tensors,
    open_tensors,
    read_config,
    write_config,
)
from unmul.checkpoint.tensorfile import BF16, Array, TensorSpec, write_tensors
from unmul.config import ModelConfig
from unmul.errors import CheckpointError
from unmul.files import atomic_file, atomic_folder, write_text

__all__ = ["TERNARY_FLAG", "latent_codes_are_final", "read_latent", "save_latent"]

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": BF16}

# Set in config.json when the projections already hold m*C: their scale is max|W|, not mean|W|.
TERNARY_FLAG = "unmul_ternary"


def latent_codes_are_final(raw: Mapping[str, Any]) -> bool:
    """Whether a folder's projections were unpacked and must not be ternarised again."""
    return bool(raw.get(TERNARY_FLAG, False))


def read_latent(folder: Path) -> tuple[ModelConfig, dict[str, Array], bool]:
    """Shape, tensors (views of the files, as stored) and whether the projections already hold m*C."""
    config, raw = read_config(folder)
    if "quantization_config" in raw:
        raise CheckpointError(f"{folder} is packed already", "use it as it is, or unpack it first")
    tensors = open_tensors(folder)
    check_tensors(folder, tensors, config.tensor_shapes)
    for name, array in tensors.items():
        if array.dtype not in (*DTYPES.values(), np.float16):
            raise CheckpointError(f"{folder}: tensor {name} has type {array.dtype}", "store it as bf16 or fp32")
    check_shared_norms(folder, tensors, config)
    return config, tensors, latent_codes_are_final(raw)


def save_latent(
    folder: Path,
    config: ModelConfig,
    make: Callable[[str], Array],
    *,
    dtype: str = "float32",
    shard_bytes: int = 5_000_000_000,
    extra: Mapping[str, Any] | None = None,
    companions: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write a folder in the published layout; make(name) gives each tensor and is called once, in file order.

    Args:
        dtype: "float32" or "bfloat16".
        shard_bytes: a larger model is split into shards with an index.
        extra: further entries of config.json.
        companions: writes tokenizer files into the folder before it takes its final name.
    """
    if dtype not in DTYPES:
        raise CheckpointError(f"dtype {dtype!r} is not a storage type", f"choose one of {', '.join(DTYPES)}")
    check_target(folder)
    kind = DTYPES[dtype]
    specs = {name: TensorSpec(kind, shape) for name, shape in config.tensor_shapes.items()}
    with atomic_folder(folder) as temporary:
        _write_shards(temporary, _split(specs, shard_bytes), lambda name: np.asarray(make(name)).astype(kind))
        write_config(temporary, {**config.to_dict(), "torch_dtype": dtype, **(extra or {})})
        companions(temporary)


def _split(specs: Mapping[str, TensorSpec], shard_bytes: int) -> list[dict[str, TensorSpec]]:
    shards: list[dict[str, TensorSpec]] = [{}]
    size = 0
    for name, spec in specs.items():
        if shards[-1] and size + spec.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = spec
        size += spec.nbytes
    return shards


def _write_shards(folder: Path, shards: list[dict[str, TensorSpec]], make: Callable[[str], Array]) -> None:
    count = len(shards)
    names = [WEIGHTS] if count == 1 else [f"model-{k + 1:05}-of-{count:05}.safetensors" for k in range(count)]
    for name, specs in zip(names, shards, strict=True):
        with atomic_file(folder / name) as handle:
            write_tensors(handle, specs, make, {"format": "pt"})
    if count > 1:
        total = sum(spec.nbytes for specs in shards for spec in specs.values())
        weight_map = {tensor: name for name, specs in zip(names, shards, strict=True) for tensor in specs}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_text(folder / INDEX, json.dumps(index, indent=2) + "\n")

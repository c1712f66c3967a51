"""Packed checkpoints: ternary codes at 1.6 bits, one float32 scale a tensor, a checksum.

On disk, for each projection X: X.weight [N, ceil(K/5)] uint8 (see ternary.pack) and X.weight_scale [] float32.
Embeddings: int8 rows with a float32 scale per row (row max / 127), or bf16. All else bf16.
config.json carries quantization_config with the format version and a SHA-256 over the weights and the shape.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unmul import ternary
from unmul.checkpoint.folder import (
    CONFIG,
    WEIGHTS,
    check_shared_norms,
    check_target,
    check_tensors,
    copy_companions,
    open_tensors,
    read_config,
    write_config,
)
from unmul.checkpoint.latent import TERNARY_FLAG, latent_codes_are_final, read_latent, save_latent
from unmul.checkpoint.tensorfile import BF16, Array, TensorSpec, write_tensors
from unmul.config import ModelConfig
from unmul.errors import CheckpointError
from unmul.files import atomic_file, atomic_folder

__all__ = [
    "FORMAT_VERSION",
    "PackReport",
    "PackedCheckpoint",
    "codes_are_fixed",
    "is_packed",
    "pack",
    "packed_specs",
    "unpack",
    "write_packed",
]

FORMAT_VERSION = 1
METHOD = "unmul"
EMBEDDINGS = "model.embeddings.weight"
SCALE = "_scale"
_REPACK = "pack the latent checkpoint again"


@dataclass(frozen=True, slots=True)
class PackReport:
    """What packing did: sizes of the weight files in bytes, and bits per ternary weight with its scale."""

    bytes_before: int
    bytes_after: int
    bits_per_weight: float


@dataclass(frozen=True, slots=True)
class PackedCheckpoint:
    """An opened packed folder: shape, tensors as stored (views of the mapped file), embeddings "int8" or "bf16"."""

    folder: Path
    config: ModelConfig
    tensors: Mapping[str, Array]
    embeddings: str

    @classmethod
    def open(cls, folder: Path, *, verify: bool = True) -> PackedCheckpoint:
        """Open and check a packed folder; verify also reads all of it once against its checksum."""
        config, raw = read_config(folder)
        quantization = _quantization(folder, raw)
        embeddings = quantization["embeddings"]
        if verify:
            _verify(folder, config, quantization)
        tensors = open_tensors(folder)
        specs = packed_specs(config, embeddings)
        check_tensors(folder, tensors, {name: spec.shape for name, spec in specs.items()})
        for name, spec in specs.items():
            if tensors[name].dtype != spec.dtype:
                raise CheckpointError(f"{folder}: tensor {name} is {tensors[name].dtype}, not {spec.dtype}", _REPACK)
        check_shared_norms(folder, tensors, config)
        return cls(folder, config, tensors, embeddings)

    def codes(self, name: str) -> Array:
        """Ternary codes int8 [N, K] of a projection."""
        return ternary.unpack(self.tensors[name], self.config.tensor_shapes[name][1])

    def scale(self, name: str) -> np.float32:
        """The one scale m of a projection."""
        return np.float32(self.tensors[name + SCALE])

    def dense(self, name: str) -> Array:
        """Any tensor in float32; a projection as m*C."""
        if name in self.config.ternary_names:
            return self.codes(name) * self.scale(name)
        values = self.tensors[name].astype(np.float32)
        if name == EMBEDDINGS and self.embeddings == "int8":
            values *= self.tensors[name + SCALE][:, None]
        return values


def is_packed(folder: Path) -> bool:
    """Whether a folder holds a packed checkpoint."""
    return "quantization_config" in read_config(folder)[1]


def codes_are_fixed(folder: Path) -> bool:
    """Whether a folder's projections are ternary already, packed or unpacked, and must not be ternarised again."""
    raw = read_config(folder)[1]
    return "quantization_config" in raw or latent_codes_are_final(raw)


def packed_specs(config: ModelConfig, embeddings: str = "int8") -> dict[str, TensorSpec]:
    """Type and shape of every tensor of a packed file."""
    ternary_names = set(config.ternary_names)
    specs: dict[str, TensorSpec] = {}
    for name, shape in config.tensor_shapes.items():
        if name in ternary_names:
            specs[name] = TensorSpec(np.dtype(np.uint8), (shape[0], ternary.packed_width(shape[1])))
            specs[name + SCALE] = TensorSpec(np.dtype(np.float32), ())
        elif name == EMBEDDINGS and embeddings == "int8":
            specs[name] = TensorSpec(np.dtype(np.int8), shape)
            specs[name + SCALE] = TensorSpec(np.dtype(np.float32), (shape[0],))
        else:
            specs[name] = TensorSpec(BF16, shape)
    return specs


def pack(source: str | Path, target: str | Path, *, embeddings: str = "int8") -> PackReport:
    """Pack a latent folder; a packed one is refused, for ternarising twice shrinks the scale.

    Args:
        embeddings: "int8" (a scale per row) or "bf16".
    """
    if embeddings not in ("int8", "bf16"):
        raise CheckpointError(f"embeddings {embeddings!r} is not a storage type", "choose int8 or bf16")
    source, target = Path(source), Path(target)
    config, tensors, final = read_latent(source)
    check_target(target, source)
    maker = _Maker(source, tensors, set(config.ternary_names), final, embeddings)
    with atomic_folder(target) as temporary:
        write_packed(temporary, config, maker, embeddings)
        copy_companions(source, temporary)
    specs = packed_specs(config, embeddings)
    bits = 8 * sum(specs[name].nbytes + specs[name + SCALE].nbytes for name in config.ternary_names)
    before = sum(array.nbytes for array in tensors.values())
    return PackReport(before, (target / WEIGHTS).stat().st_size, bits / config.ternary_weights)


def unpack(source: str | Path, target: str | Path) -> None:
    """Write a packed folder as latent float32 with m*C as weights, flagged so that packing returns the same codes."""
    source, target = Path(source), Path(target)
    packed = PackedCheckpoint.open(source)
    check_target(target, source)
    save_latent(
        target,
        packed.config,
        packed.dense,
        extra={TERNARY_FLAG: True},
        companions=lambda folder: copy_companions(source, folder),
    )


def write_packed(folder: Path, config: ModelConfig, make: Callable[[str], Array], embeddings: str) -> None:
    """Write model.safetensors and config.json of a packed checkpoint; make(name) gives each tensor as stored."""
    with atomic_file(folder / WEIGHTS) as handle:
        write_tensors(handle, packed_specs(config, embeddings), make, {"format": METHOD})
    quantization = {
        "quant_method": METHOD,
        "version": FORMAT_VERSION,
        "bits": 8 / ternary.TRITS_PER_BYTE,
        "embeddings": embeddings,
        "checksum": _checksum(folder / WEIGHTS, config, embeddings),
    }
    write_config(folder, {**config.to_dict(), "torch_dtype": "bfloat16", "quantization_config": quantization})


class _Maker:
    """Turns latent tensors into packed ones, one at a time, so that a large model never stands in memory whole."""

    def __init__(self, source: Path, tensors: Mapping[str, Array], names: set[str], final: bool, kind: str) -> None:
        self._source, self._tensors, self._names, self._final, self._kind = source, tensors, names, final, kind

    def __call__(self, name: str) -> Array:
        if name in self._names:
            weight = self._float32(name)
            return ternary.pack(ternary.codes(weight, self._weight_scale(weight)).astype(np.int8))
        base = name.removesuffix(SCALE)
        if base in self._names:
            return np.asarray(self._weight_scale(self._float32(base)))
        if base == EMBEDDINGS and self._kind == "int8":
            rows = self._float32(base)
            scales = np.maximum(np.abs(rows).max(1), np.float32(ternary.SMALLEST)) / np.float32(127)
            return scales if name != base else np.rint(rows / scales[:, None]).astype(np.int8)
        return self._float32(name).astype(BF16)

    def _weight_scale(self, weight: Array) -> np.float32:
        return ternary.final_scale(weight) if self._final else np.float32(ternary.scale(weight))

    def _float32(self, name: str) -> Array:
        array = self._tensors[name].astype(np.float32)
        if not np.isfinite(array).all():
            raise CheckpointError(
                f"{self._source}: tensor {name} holds NaN or infinity", "train again from a sound state"
            )
        return array


def _quantization(folder: Path, raw: Mapping[str, Any]) -> Mapping[str, Any]:
    quantization = raw.get("quantization_config")
    if not isinstance(quantization, dict):
        raise CheckpointError(f"{folder} is not packed", f"unmul pack {folder} PACKED")
    if quantization.get("quant_method") != METHOD:
        raise CheckpointError(f"{folder / CONFIG}: quant_method {quantization.get('quant_method')!r}", _REPACK)
    if quantization.get("version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder}: packed format version {quantization.get('version')!r}",
            "use the unmul that wrote it, or " + _REPACK,
        )
    if quantization.get("embeddings") not in ("int8", "bf16"):
        raise CheckpointError(f"{folder / CONFIG}: embeddings {quantization.get('embeddings')!r}", _REPACK)
    return quantization


def _verify(folder: Path, config: ModelConfig, quantization: Mapping[str, Any]) -> None:
    if not (folder / WEIGHTS).exists():
        raise CheckpointError(f"{folder} has no {WEIGHTS}", "copy or download it again")
    if _checksum(folder / WEIGHTS, config, quantization["embeddings"]) != quantization.get("checksum"):
        raise CheckpointError(
            f"{folder} is damaged (the checksum of {WEIGHTS} and the shape differs)", "copy it again or " + _REPACK
        )


def _checksum(path: Path, config: ModelConfig, embeddings: str) -> str:
    """SHA-256 over the weights file, then over what config.json says about their meaning."""
    try:
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})", "copy or download it again") from error
    usual = ModelConfig().to_dict()  # left out, so that fields added later do not change the sums of older files
    meaning = {key: value for key, value in config.to_dict().items() if value != usual.get(key)}
    meaning["embeddings"] = embeddings
    digest.update(json.dumps(meaning, sort_keys=True, separators=(",", ":")).encode())
    return "sha256:" + digest.hexdigest()

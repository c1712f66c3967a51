"""unmul info: what a checkpoint folder or a preset holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unmul.checkpoint import TOKENIZER, PackedCheckpoint, is_packed, read_latent
from unmul.checkpoint.folder import CARD, read_json
from unmul.checkpoint.packed import packed_specs
from unmul.checkpoint.tensorfile import TensorSpec
from unmul.cli.output import emit, megabytes, rows
from unmul.config import PRESETS, ModelConfig, preset
from unmul.errors import CheckpointError

__all__ = ["info"]

SHAPE = (
    "vocab_size", "hidden_size", "expand_ratio", "num_hidden_layers", "intermediate_size", "max_position_embeddings",
)  # fmt: skip
STATE_VALUE_BYTES = 4


def info(model: str, /, *, json: bool = False) -> None:
    """Show the shape, size on disk and state of a model.

    Args:
        model: a checkpoint folder, packed or latent (a packed one is checked), or a preset: 370m, 1.3b, 2.7b.
        json: write one JSON document instead of text.
    """
    if not Path(model).exists() and model.lower() not in PRESETS:
        raise CheckpointError(
            f"{model} is neither a folder nor a preset", f"give a checkpoint folder, or one of {', '.join(PRESETS)}"
        )
    found = _folder(Path(model)) if Path(model).exists() else _preset(model)
    if json:
        emit(found)
    else:
        print(rows(_lines(found)))


def _folder(folder: Path) -> dict[str, Any]:
    if is_packed(folder):
        kind, packed = "packed", PackedCheckpoint.open(folder)
        config, tensors = packed.config, packed.tensors
    else:
        config, tensors, _ = read_latent(folder)
        kind = "latent"
    specs = {name: TensorSpec(array.dtype, array.shape) for name, array in tensors.items()}
    found = _describe(kind, config, specs, _vocabulary(folder, config))
    return {**found, "training": _training(folder)}


def _preset(name: str) -> dict[str, Any]:
    config = preset(name)
    return {**_describe("preset", config, packed_specs(config), None), "training": None}


def _describe(
    kind: str, config: ModelConfig, specs: Mapping[str, TensorSpec], vocabulary: int | None
) -> dict[str, Any]:
    sizes = {"ternary": 0, "embeddings": 0, "other": 0}
    for name, spec in specs.items():
        sizes[_purpose(name, config)] += spec.nbytes
    return {
        "kind": kind,
        "shape": {**{name: getattr(config, name) for name in SHAPE}, "intermediate_size": config.ffn_size},
        "parameters": config.parameters,
        "ternary_weights": config.ternary_weights,
        "bytes": {"total": sum(sizes.values()), **sizes},
        "bits_per_weight": 8 * sizes["ternary"] / config.ternary_weights,
        "state_bytes": config.state_values * STATE_VALUE_BYTES,
        "tokenizer_entries": vocabulary,
    }


def _purpose(name: str, config: ModelConfig) -> str:
    base = name.removesuffix("_scale")
    if base in config.ternary_names:
        return "ternary"
    return "embeddings" if base == "model.embeddings.weight" else "other"


def _training(folder: Path) -> dict[str, Any] | None:
    """What training wrote beside the weights, where they have not been packed since."""
    path = folder / CARD
    return read_json(path) if path.is_file() else None


def _vocabulary(folder: Path, config: ModelConfig) -> int | None:
    from unmul.runtime import folder_tokenizer

    return folder_tokenizer(folder, config).get_vocab_size() if (folder / TOKENIZER).is_file() else None


def _lines(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    shape, size = found["shape"], found["bytes"]
    stored = "as packed" if found["kind"] == "preset" else "on disk"
    entries = found["tokenizer_entries"]
    lines = [
        ("kind", found["kind"]),
        ("layers", str(shape["num_hidden_layers"])),
        ("width", _width(shape)),
        ("vocabulary", f"{shape['vocab_size']:,}" + (f", tokenizer with {entries:,}" if entries else ", no tokenizer")),
        ("parameters", f"{found['parameters']:,}, {found['ternary_weights']:,} of them ternary"),
        (f"bytes {stored}", megabytes(size["total"])),
        ("  ternary", f"{megabytes(size['ternary'])}, {found['bits_per_weight']:.3f} bits a weight"),
        ("  embeddings", megabytes(size["embeddings"])),
        ("  other", megabytes(size["other"])),
        ("state", f"{megabytes(found['state_bytes'])}, whatever the length of the text"),
    ]
    if found["training"]:
        lines.append(("trained", _trained(found["training"])))
    return lines


def _trained(card: Mapping[str, Any]) -> str:
    before = card.get("before") or {}
    own = f"{card['steps']:,} steps, {card['tokens']:,} tokens"
    return own + (f", after {before['steps']:,} steps, {before['tokens']:,} tokens" if before.get("steps") else "")


def _width(shape: Mapping[str, int]) -> str:
    width, ratio = shape["hidden_size"], shape["expand_ratio"]
    wider = f", {ratio * width} in the token mixer" if ratio > 1 else ""
    return f"{width}{wider}, {shape['intermediate_size']} in the channel mixer"

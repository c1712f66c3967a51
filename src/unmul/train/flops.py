"""How much work a token is: one definition for both kinds of model, so that their costs compare.

Products of one training step, forward and backward: 6 per weight of a projection or the head and token (2 forward, 4
backward). Embeddings are looked up, not multiplied. Causal attention over a full context of T tokens adds
6 L D (T + 1): 2 D for a score and 2 D for its value, for (T + 1) / 2 keys on average, three times. Elementwise
work (norms, gates, the recurrence) is not counted, nor what activation checkpointing computes twice; ternary products
count as full ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from unmul.checkpoint.packed import packed_specs
from unmul.config import ModelConfig

__all__ = ["Size", "peak_flops", "size", "weight_bytes"]

# Dense bf16 FLOP/s as the makers state them; part of the device's name -> peak, first match wins.
PEAKS = {"H200": 989e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "A100": 312e12}


class Size(NamedTuple):
    """Parameters in all, those that are neither embeddings nor the head's weights, training FLOPs a token."""

    parameters: int
    inner: int
    flops_per_token: int


def size(kind: str, shape: ModelConfig, context: int) -> Size:
    """Size of a model of one of recipe.TYPES and a shape, trained on windows of context tokens."""
    if kind.startswith("transformer"):
        shape = replace(shape, expand_ratio=1)  # it has no token mixer to widen
    layers, width, table = shape.num_hidden_layers, shape.hidden_size, shape.vocab_size * shape.hidden_size
    products = shape.ternary_weights  # both kinds have the same projections, and the head
    parameters, attention = shape.parameters, 0
    if kind.startswith("transformer"):
        parameters = products + table + (2 * layers + 1) * width  # two norms a block and the last one
        attention = 6 * layers * width * (context + 1)
    if kind == "transformer-ternary":
        parameters += layers * (6 * width + shape.ffn_size) + width  # a gain before each of seven, and the head
    return Size(parameters, parameters - 2 * table, 6 * products + attention)


def weight_bytes(kind: str, shape: ModelConfig) -> int:
    """Bytes of a model's weights where it is used: packed where they are ternary, as of ours, else bf16."""
    if kind in ("matmulfree", "transformer-ternary"):
        return sum(spec.nbytes for spec in packed_specs(shape).values())
    return 2 * size(kind, shape, 1).parameters


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 FLOP/s that a device can reach at best; None for a CPU and for GPUs that are not in the table."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)

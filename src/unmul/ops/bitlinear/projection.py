"""What an operation needs to know of a projection: the gain of its norm, and weights, latent or fixed."""

from __future__ import annotations

from typing import NamedTuple

import torch

__all__ = ["EPS", "Projection"]

EPS = 1e-6  # of the norm inside every projection; the published class declares 1e-8 but runs with this


class Projection(NamedTuple):
    """Latent weights [N, K] where scale is None, else int8 codes [N, K] and their scale []; gain [K].

    With int8_backward both products of the backward pass are taken of 8-bit operands; the forward pass is the same.
    """

    gain: torch.Tensor
    weight: torch.Tensor
    scale: torch.Tensor | None = None
    int8_backward: bool = False

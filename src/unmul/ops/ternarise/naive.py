"""Weights to codes and scales through the one definition: what faster versions are compared with, to the bit."""

# G weights of one shape, N rows, K columns

from __future__ import annotations

from collections.abc import Sequence

import torch

from unmul import ternary

__all__ = ["ternarise"]


def ternarise(weights: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes [G, N, K] int8 in {-1, 0, 1} and scales [G] float32 of G latent weights [N, K]; no gradient."""
    wide = [weight.detach().float() for weight in weights]
    scales = [ternary.scale(weight) for weight in wide]
    codes = [ternary.codes(weight, m).to(torch.int8) for weight, m in zip(wide, scales, strict=True)]
    return torch.stack(codes), torch.stack(scales)

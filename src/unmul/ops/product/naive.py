"""The product of 8-bit activations and ternary weights, as its formula: what faster versions are compared with."""

# G groups, M rows, K columns, N out features

from __future__ import annotations

import torch

__all__ = ["product"]


def product(
    q_GMK: torch.Tensor, s_GM: torch.Tensor, c_GNK: torch.Tensor, m_G: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """y = (q C^T) (m/s): exact integers, then one multiply, then one rounding to dtype.

    Float64 holds the integer sums exactly, and PyTorch has no fast product of integers.

    Shapes: q [G, M, K] and C [G, N, K] int8, s [G, M] and m [G] float32 -> y [G, M, N].
    """
    sums_GMN = q_GMK.double() @ c_GNK.double().mT
    return (sums_GMN.float() * (m_G[:, None] / s_GM)[..., None]).to(dtype)

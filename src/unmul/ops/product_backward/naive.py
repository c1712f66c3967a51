"""The gradients of a product from 8-bit operands, as their formula: what faster versions are compared with."""

# G groups, M rows, K columns, N out features

from __future__ import annotations

from collections.abc import Sequence

import torch

from unmul.ops.product.naive import product

__all__ = ["SMALLEST", "int8_product_backward", "quantise_gradients"]

SMALLEST = 1e-30  # gradients of a mean over many tokens are small: only what is all but zero is scaled as if larger


def int8_product_backward(
    grads: Sequence[torch.Tensor],
    q_GMK: torch.Tensor,
    s_GM: torch.Tensor,
    c_GNK: torch.Tensor,
    m_G: torch.Tensor,
    weight_dtype: torch.dtype | None,
) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
    """Straight-through gradients of product: dX = dY (m C) and dW = dY^T (q/s), each with dY rounded to 8 bits.

    For dX every row of dY has a scale of its own. For dW the sum is over rows, so dY/s has a scale for each column.

    Shapes: G gradients dY [M, N] -> G dX [M, K] in dY's dtype, and G dW [N, K], or None without weight_dtype.
    """
    row_GMN, row_scale_GM, column_GNM, column_scale_GN = quantise_gradients(grads, s_GM)
    grads_x = product(row_GMN, row_scale_GM, c_GNK.mT, m_G, grads[0].dtype)
    if weight_dtype is None:
        return list(grads_x), [None] * len(grads)
    grads_w = product(column_GNM, column_scale_GN, q_GMK.mT, torch.ones_like(m_G), weight_dtype)
    return list(grads_x), list(grads_w)


def quantise_gradients(
    grads: Sequence[torch.Tensor], s_GM: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """dY by row, and dY/s by column and transposed: each as int8 codes and their scales, 127 over the largest.

    Rounded to nearest: random rounding gains nothing and adds noise (docs/lab-notes.md, 2026-11-24). What is not
    finite gives a scale that is not, so that no gradient hides it.

    Shapes: G gradients dY [M, N], s [G, M] -> int8 [G, M, N], float32 [G, M], int8 [G, N, M], float32 [G, N].
    """
    wide_GMN = torch.stack([grad_MN.float() for grad_MN in grads])
    return *_quantise(wide_GMN), *_quantise((wide_GMN * (1 / s_GM)[..., None]).mT)


def _quantise(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = 127 * (1 / x.abs().amax(-1).clip(SMALLEST))
    return (x * scale[..., None]).round().to(torch.int8), scale

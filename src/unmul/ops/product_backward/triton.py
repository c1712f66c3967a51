"""The backward pass of product: straight-through gradients as matmuls of the library, or from 8-bit operands.

The second has the contract of naive.int8_product_backward, to the bit before the last rounding; compared in
tests/ops/test_product_backward.py. The gradient is read twice: by rows, which also finds the largest of each column,
then in tiles that are turned as they are rounded. Both products are the forward pass's own: it takes operands whose
rows run along what is summed, so codes and activations are turned as well, for a byte read and a byte written each.
"""

# G groups, M rows, K columns, N out features

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from unmul.errors import UsageError
from unmul.ops.product.triton import product
from unmul.ops.product_backward.naive import SMALLEST
from unmul.ops.rows import backward_launch, block, rint

__all__ = ["dequantise", "int8_product_backward", "matmul", "product_backward", "quantise_gradients", "transpose"]

MOST_ROWS = (2**31 - 1) // 127**2  # whose products fit a sum of 32 bits
LEAST = tl.constexpr(SMALLEST)
TILE_M, TILE_N = 128, 64  # of a gradient; what is written has rows of 128 bytes


def product_backward(
    grads: Sequence[torch.Tensor],
    q_GMK: torch.Tensor,
    s_GM: torch.Tensor,
    c_GNK: torch.Tensor,
    m_G: torch.Tensor,
    weight_dtype: torch.dtype | None,
    int8_backward: bool,
) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
    """Straight-through gradients: dX = dY (m C) in dY's dtype, and dW = dY^T (q/s), or None for fixed weights.

    With int8_backward dY is rounded to 8 bits too, see naive.int8_product_backward.

    Shapes: G gradients dY [M, N] -> G dX [M, K] and G dW [N, K].
    """
    if int8_backward:
        return int8_product_backward(grads, q_GMK, s_GM, c_GNK, m_G, weight_dtype)
    dtype = grads[0].dtype
    wide_GNK = dequantise(c_GNK, m_G, False, dtype)
    grads_x = [grad_MN @ wide_NK for grad_MN, wide_NK in zip(grads, wide_GNK, strict=True)]
    if weight_dtype is None:
        return grads_x, [None] * len(grads)
    wide_GMK = dequantise(q_GMK, s_GM, True, dtype)
    pairs = zip(grads, wide_GMK, strict=True)
    return grads_x, [matmul(grad_MN.t(), wide_MK, weight_dtype) for grad_MN, wide_MK in pairs]


@torch.library.custom_op("unmul::dequantise", mutates_args=())
def dequantise(codes: torch.Tensor, scale: torch.Tensor, inverse: bool, dtype: torch.dtype) -> torch.Tensor:
    """Operands for the backward products: codes times their scale, or over it (inverse), in dtype.

    Shapes: codes [..., K] int8; scale, one for each of its elements' equal shares of the rows.
    """
    columns = codes.shape[-1]
    rows = codes.numel() // columns
    wide = torch.empty_like(codes, dtype=dtype)
    grid = (rows, triton.cdiv(columns, 2048))
    _dequantise_kernel[grid](codes, scale, wide, columns, rows // scale.numel(), inverse, 2048, num_warps=4)
    return wide


@dequantise.register_fake
def _(codes: torch.Tensor, scale: torch.Tensor, inverse: bool, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty_like(codes, dtype=dtype)


@triton.jit
def _dequantise_kernel(p_codes, p_scale, p_wide, columns, share, INVERSE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    o_k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    scale = tl.load(p_scale + row // share)
    if INVERSE:
        scale = 1 / scale
    code = tl.load(p_codes + row * columns + o_k, mask=o_k < columns)
    tl.store(
        p_wide + row * columns + o_k, (code.to(tl.float32) * scale).to(p_wide.dtype.element_ty), mask=o_k < columns
    )


def matmul(a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """a b, summed in float32 and rounded once to dtype, which may be wider than the operands."""
    if a.dtype == dtype or not a.is_cuda:
        return (a @ b).to(dtype)
    return torch.mm(a, b, out_dtype=dtype)


def int8_product_backward(
    grads: Sequence[torch.Tensor],
    q_GMK: torch.Tensor,
    s_GM: torch.Tensor,
    c_GNK: torch.Tensor,
    m_G: torch.Tensor,
    weight_dtype: torch.dtype | None,
) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
    """G dX [M, K] in dY's dtype and G dW [N, K]; see naive.int8_product_backward.

    Raises:
        UsageError: more rows than sums of 32 bits can hold.
    """
    rows = s_GM.shape[1]
    if rows > MOST_ROWS:
        problem = f"an 8-bit backward pass over {rows} tokens can overflow its sums of 32 bits"
        raise UsageError(problem, f"take at most {MOST_ROWS} at once: a smaller train.batch, a larger train.accumulate")
    row_GMN, row_scale_GM, column_GNM, column_scale_GN = quantise_gradients(list(grads), s_GM)
    grads_x = product(row_GMN, row_scale_GM, transpose(c_GNK), m_G, grads[0].dtype)
    if weight_dtype is None:
        return list(grads_x.unbind()), [None] * len(grads)
    grads_w = product(column_GNM, column_scale_GN, transpose(q_GMK), torch.ones_like(m_G), weight_dtype)
    return list(grads_x.unbind()), list(grads_w.unbind())


@torch.library.custom_op("unmul::quantise_gradients", mutates_args=())
def quantise_gradients(
    grads: list[torch.Tensor], s_GM: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """int8 [G, M, N] and scales [G, M] of G gradients [M, N]; int8 [G, N, M] and scales [G, N] of them over s."""
    outputs = _quantise_gradients_outputs(grads, s_GM)
    for grad_MN, *rest in zip(grads, s_GM, *outputs, strict=True):
        _quantise_gradient(grad_MN.contiguous(), *rest)
    return outputs


@quantise_gradients.register_fake
def _quantise_gradients_outputs(
    grads: list[torch.Tensor], s_GM: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    groups, rows, columns = len(grads), *grads[0].shape
    row_GMN = s_GM.new_empty((groups, rows, columns), dtype=torch.int8)
    column_GNM = s_GM.new_empty((groups, columns, rows), dtype=torch.int8)
    return row_GMN, torch.empty_like(s_GM), column_GNM, s_GM.new_empty((groups, columns))


def _quantise_gradient(
    grad_MN: torch.Tensor,
    s_M: torch.Tensor,
    row_MN: torch.Tensor,
    row_scale_M: torch.Tensor,
    column_NM: torch.Tensor,
    column_scale_N: torch.Tensor,
) -> None:
    """One of quantise_gradients; without fused multiply-add, which would round halves otherwise than naive."""
    rows, columns = grad_MN.shape
    programs, warps = backward_launch(grad_MN, columns)
    largest = s_M.new_empty((programs, columns))
    _row_kernel[(programs,)](
        grad_MN, s_M, row_MN, row_scale_M, largest, rows, columns, block(columns), num_warps=warps,
        enable_fp_fusion=False,
    )  # fmt: skip
    _column_scale_kernel[(triton.cdiv(columns, 32),)](largest, column_scale_N, programs, columns, 64, 32, num_warps=4)
    _column_kernel[(triton.cdiv(rows, TILE_M), triton.cdiv(columns, TILE_N))](
        grad_MN, s_M, column_scale_N, column_NM, rows, columns, TILE_M, TILE_N, num_warps=4,
        enable_fp_fusion=False,
    )  # fmt: skip


@triton.jit
def _scale(largest):
    """127 over the largest, as naive rounds it; 0 where that is infinite, so that the product is not finite either."""
    return 127.0 * tl.div_rn(1.0, tl.maximum(largest, LEAST))


@triton.jit
def _row_kernel(p_grad, p_s, p_row, p_scale, p_largest, rows, columns, BLOCK: tl.constexpr):
    program, programs = tl.program_id(0), tl.num_programs(0)
    o_n = tl.arange(0, BLOCK)
    in_row = o_n < columns
    largest = tl.zeros([BLOCK], tl.float32)
    for step in range(0, tl.cdiv(rows, programs)):
        row = (step * programs + program).to(tl.int64)
        present = in_row & (row < rows)
        grad = tl.load(p_grad + row * columns + o_n, mask=present, other=0.0).to(tl.float32)
        magnitude = tl.where(grad == grad, tl.abs(grad), float("inf"))  # a maximum would pass over NaN
        scale = _scale(tl.max(magnitude))
        tl.store(p_row + row * columns + o_n, rint(grad * scale).to(tl.int8), mask=present)
        tl.store(p_scale + row, scale, mask=row < rows)
        inverse = tl.div_rn(1.0, tl.load(p_s + row, mask=row < rows, other=1.0))
        largest = tl.maximum(largest, magnitude * inverse)
    tl.store(p_largest + program * columns + o_n, largest, mask=in_row)


@triton.jit
def _column_scale_kernel(p_largest, p_scale, programs, columns, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr):
    o_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    largest = tl.zeros([BLOCK_N], tl.float32)
    for start in range(0, programs, BLOCK_P):
        o_p = start + tl.arange(0, BLOCK_P)
        inside = (o_p < programs)[:, None] & (o_n < columns)[None, :]
        share = tl.load(p_largest + o_p[:, None] * columns + o_n[None, :], mask=inside, other=0.0)
        largest = tl.maximum(largest, tl.max(share, 0))
    tl.store(p_scale + o_n, _scale(largest), mask=o_n < columns)


@triton.jit
def _column_kernel(
    p_grad, p_s, p_scale, p_column, rows, columns, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr
):  # fmt: skip
    o_m = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    o_n = (tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
    in_m, in_n = o_m < rows, o_n < columns
    inside = in_m[:, None] & in_n[None, :]
    grad = tl.load(p_grad + o_m[:, None] * columns + o_n[None, :], mask=inside, other=0.0).to(tl.float32)
    inverse = tl.div_rn(1.0, tl.load(p_s + o_m, mask=in_m, other=1.0))
    scale = tl.load(p_scale + o_n, mask=in_n, other=0.0)
    code = rint(grad * inverse[:, None] * scale[None, :]).to(tl.int8)
    tl.store(p_column + o_n[:, None] * rows + o_m[None, :], tl.trans(code), mask=in_n[:, None] & in_m[None, :])


@torch.library.custom_op("unmul::transpose", mutates_args=())
def transpose(codes: torch.Tensor) -> torch.Tensor:
    """int8 [G, M, N] -> [G, N, M]."""
    groups, rows, columns = codes.shape
    turned = _transpose_output(codes)
    grid = (triton.cdiv(rows, 128), triton.cdiv(columns, 128), groups)
    _transpose_kernel[grid](codes.contiguous(), turned, rows, columns, 128, num_warps=4)
    return turned


@transpose.register_fake
def _transpose_output(codes: torch.Tensor) -> torch.Tensor:
    return codes.new_empty((codes.shape[0], codes.shape[2], codes.shape[1]))


@triton.jit
def _transpose_kernel(p_codes, p_turned, rows, columns, SIDE: tl.constexpr):
    o_m = (tl.program_id(0) * SIDE + tl.arange(0, SIDE)).to(tl.int64)
    o_n = (tl.program_id(1) * SIDE + tl.arange(0, SIDE)).to(tl.int64)
    in_m, in_n = o_m < rows, o_n < columns
    group = tl.program_id(2).to(tl.int64) * rows * columns
    code = tl.load(p_codes + group + o_m[:, None] * columns + o_n[None, :], mask=in_m[:, None] & in_n[None, :], other=0)
    tl.store(p_turned + group + o_n[:, None] * rows + o_m[None, :], tl.trans(code), mask=in_n[:, None] & in_m[None, :])

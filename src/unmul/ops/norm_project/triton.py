"""Same contract as naive.norm_project, in exact integers; compared in tests/ops/test_norm_project.py.

One pass adds, normalises twice and writes the 8-bit operands of every projection; one product serves them all. One
backward pass joins their gradients, recomputing what it needs from the sum that was stored. Under autocast the residual
stream continues in autocast's dtype.
"""

# G projections, M rows (all leading dimensions), K width of the residual stream, N out features

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from unmul.ops.bitlinear import EPS, Projection
from unmul.ops.product.triton import product
from unmul.ops.product_backward.triton import product_backward
from unmul.ops.rows import backward_launch, block, mean, quantise_row, two_norms, warps
from unmul.ops.ternarise.held import ternary_operand

__all__ = ["activation_dtype", "norm_project", "norm_quantise", "norm_quantise_backward"]


def norm_project(
    x: torch.Tensor, delta: torch.Tensor | None, gain: torch.Tensor, projections: Sequence[Projection], eps: float
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """x + delta [..., K] and y [..., N] of each of up to three projections of one kind; see naive.norm_project."""
    # Views: torch.compile refuses a gain that several projections share when it comes more than once.
    gains = [projection.gain.contiguous().view(-1) for projection in projections]
    weights = [projection.weight for projection in projections]
    operand = ternary_operand(projections)
    int8_backward = projections[0].int8_backward
    summed, *outputs = _NormProject.apply(
        x, delta, gain.contiguous(), eps, activation_dtype(x), int8_backward, *operand, *gains, *weights
    )
    return summed, outputs


def activation_dtype(x: torch.Tensor) -> torch.dtype:
    """The dtype that activations take: autocast's where it is on, else x's own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class _NormProject(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, delta: torch.Tensor | None, gain: torch.Tensor, eps: float, dtype: torch.dtype,
        int8_backward: bool, c_GNK: torch.Tensor, m_G: torch.Tensor, *gains_and_weights: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:  # fmt: skip
        groups = len(gains_and_weights) // 2
        gains, weights = list(gains_and_weights[:groups]), gains_and_weights[groups:]
        rows = x.reshape(-1, x.shape[-1])
        added = None if delta is None else delta.reshape(rows.shape)
        summed_MK, q_GMK, s_GM = norm_quantise(rows, added, gain, gains, eps, dtype)
        y_GMN = product(q_GMK, s_GM, c_GNK, m_G, dtype)
        ctx.save_for_backward(summed_MK, q_GMK, s_GM, c_GNK, m_G, gain, *gains)
        ctx.eps, ctx.x_dtype, ctx.delta_dtype = eps, x.dtype, None if delta is None else delta.dtype
        ctx.weight_dtype = weights[0].dtype if weights[0].is_floating_point() else None
        ctx.int8_backward = int8_backward
        return summed_MK.view(x.shape), *(y_MN.view(*x.shape[:-1], -1) for y_MN in y_GMN)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        summed_MK, q_GMK, s_GM, c_GNK, m_G, gain, *gains = ctx.saved_tensors
        grad_rows, *grads_y = [grad.reshape(len(summed_MK), -1) for grad in grads]
        operands = q_GMK, s_GM, c_GNK, m_G
        grads_n, grads_w = product_backward(grads_y, *operands, ctx.weight_dtype, ctx.int8_backward)
        grad_MK, grad_gains = norm_quantise_backward(grad_rows, grads_n, summed_MK, gain, gains, ctx.eps)
        grad_x = grad_MK.view(grads[0].shape)
        grad_delta = None if ctx.delta_dtype is None else grad_x.to(ctx.delta_dtype)
        nothing = (None,) * 5
        return grad_x.to(ctx.x_dtype), grad_delta, grad_gains[-1].to(gain.dtype), *nothing, *grad_gains[:-1], *grads_w


@torch.library.custom_op("unmul::norm_quantise", mutates_args=())
def norm_quantise(
    x: torch.Tensor,
    delta: torch.Tensor | None,
    gain: torch.Tensor,
    gains: list[torch.Tensor],
    eps: float,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x + delta [M, K] in dtype; 8-bit operands q [G, M, K] of its norm through each of up to three gains; s [G, M]."""
    summed, q, s = _norm_quantise_outputs(x, delta, gain, gains, eps, dtype)
    rows, columns = x.shape
    second, third = gains[min(1, len(gains) - 1)], gains[-1]
    _norm_quantise_kernel[(rows,)](
        x.contiguous(), x if delta is None else delta.contiguous(), gain, gains[0], second, third, summed, q, s,
        columns, eps, EPS, delta is not None, len(gains), block(columns), num_warps=warps(columns),
    )  # fmt: skip
    return summed, q, s


@norm_quantise.register_fake
def _norm_quantise_outputs(
    x: torch.Tensor,
    delta: torch.Tensor | None,
    gain: torch.Tensor,
    gains: list[torch.Tensor],
    eps: float,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    shape = (len(gains), *x.shape)
    scales = x.new_empty(shape[:-1], dtype=torch.float32)
    return x.new_empty(x.shape, dtype=dtype), x.new_empty(shape, dtype=torch.int8), scales


@triton.jit
def _norm_quantise_kernel(
    p_x, p_delta, p_gain, p_gain0, p_gain1, p_gain2, p_sum, p_q, p_s, columns, eps, inner_eps,
    HAS_DELTA: tl.constexpr, GROUPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    o_k = tl.arange(0, BLOCK)
    in_row = o_k < columns
    x = tl.load(p_x + row * columns + o_k, mask=in_row, other=0.0).to(tl.float32)
    if HAS_DELTA:
        x += tl.load(p_delta + row * columns + o_k, mask=in_row, other=0.0).to(tl.float32)
    stored = x.to(p_sum.dtype.element_ty)
    tl.store(p_sum + row * columns + o_k, stored, mask=in_row)
    x = stored.to(tl.float32)
    scaled = x * tl.load(p_gain + o_k, mask=in_row, other=0.0).to(tl.float32)
    outer, inner = two_norms(mean(x * x, columns), mean(scaled * scaled, columns), eps, inner_eps)
    for group in tl.static_range(GROUPS):
        p_inner = p_gain0 if group == 0 else (p_gain1 if group == 1 else p_gain2)
        n = scaled * tl.load(p_inner + o_k, mask=in_row, other=0.0).to(tl.float32)
        place = group * tl.num_programs(0) + row
        factor = outer * inner
        quantise_row(n * factor, tl.max(tl.abs(n)) * factor, p_q, p_s, place, columns, o_k, in_row)


@torch.library.custom_op("unmul::norm_quantise_backward", mutates_args=())
def norm_quantise_backward(
    grad: torch.Tensor | None,
    grads_n: list[torch.Tensor],
    summed: torch.Tensor,
    gain: torch.Tensor,
    gains: list[torch.Tensor],
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of x (and of delta) [M, K], and [G + 1, K] those of the inner gains and, last, of the outer one."""
    rows, columns = summed.shape
    programs, count = backward_launch(summed, columns)
    grad_x = torch.empty_like(summed)
    shares = summed.new_empty((programs, len(gains) + 1, columns), dtype=torch.float32)
    last = len(gains) - 1
    _norm_quantise_backward_kernel[(programs,)](
        summed if grad is None else grad.contiguous(), grads_n[0], grads_n[min(1, last)], grads_n[last],
        summed, gain, gains[0], gains[min(1, last)], gains[last], grad_x, shares,
        rows, columns, eps, EPS, grad is not None, len(gains), block(columns), num_warps=count,
    )  # fmt: skip
    return grad_x, shares.sum(0)


@norm_quantise_backward.register_fake
def _(
    grad: torch.Tensor | None,
    grads_n: list[torch.Tensor],
    summed: torch.Tensor,
    gain: torch.Tensor,
    gains: list[torch.Tensor],
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (len(gains) + 1, summed.shape[1])
    return torch.empty_like(summed), summed.new_empty(shape, dtype=torch.float32)


@triton.jit
def _norm_quantise_backward_kernel(
    p_grad, p_n0, p_n1, p_n2, p_sum, p_gain, p_gain0, p_gain1, p_gain2, p_grad_x, p_shares,
    rows, columns, eps, inner_eps, HAS_GRAD: tl.constexpr, GROUPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    program, programs = tl.program_id(0), tl.num_programs(0)
    o_k = tl.arange(0, BLOCK)
    in_row = o_k < columns
    outer_sum, inner0 = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    inner1, inner2 = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for step in range(0, tl.cdiv(rows, programs)):
        row = (step * programs + program).to(tl.int64)
        present = in_row & (row < rows)
        o = row * columns + o_k
        x = tl.load(p_sum + o, mask=present, other=0.0).to(tl.float32)
        grad0 = tl.load(p_n0 + o, mask=present, other=0.0).to(tl.float32)
        if GROUPS > 1:
            grad1 = tl.load(p_n1 + o, mask=present, other=0.0).to(tl.float32)
        if GROUPS > 2:
            grad2 = tl.load(p_n2 + o, mask=present, other=0.0).to(tl.float32)
        joined = grad0 * tl.load(p_gain0 + o_k, mask=in_row, other=0.0)  # gains stay in the cache: registers are scarce
        if GROUPS > 1:
            joined += grad1 * tl.load(p_gain1 + o_k, mask=in_row, other=0.0)
        if GROUPS > 2:
            joined += grad2 * tl.load(p_gain2 + o_k, mask=in_row, other=0.0)
        gain = tl.load(p_gain + o_k, mask=in_row, other=0.0).to(tl.float32)
        scaled = x * gain
        scaled_square, along = mean(scaled * scaled, columns), mean(joined * scaled, columns)
        outer, inner = two_norms(mean(x * x, columns), scaled_square, eps, inner_eps)
        unit = scaled * (outer * inner)
        inner0 += grad0 * unit
        if GROUPS > 1:
            inner1 += grad1 * unit
        if GROUPS > 2:
            inner2 += grad2 * unit
        pull = along * outer * inner
        grad_normed = inner * (joined - unit * pull)
        outer_sum += grad_normed * x * outer
        back = inner * (along - scaled_square * outer * inner * pull)  # mean of grad_normed * scaled
        grad_x = outer * (grad_normed * gain - x * (outer * outer * back))
        if HAS_GRAD:
            grad_x += tl.load(p_grad + o, mask=present, other=0.0).to(tl.float32)
        tl.store(p_grad_x + o, grad_x.to(p_grad_x.dtype.element_ty), mask=present)
    p_shares += program * (GROUPS + 1) * columns + o_k
    tl.store(p_shares, inner0, mask=in_row)
    if GROUPS > 1:
        tl.store(p_shares + columns, inner1, mask=in_row)
    if GROUPS > 2:
        tl.store(p_shares + 2 * columns, inner2, mask=in_row)
    tl.store(p_shares + GROUPS * columns, outer_sum, mask=in_row)

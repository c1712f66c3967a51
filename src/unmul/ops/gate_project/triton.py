"""Same contract as naive.gate_project, in exact integers; compared in tests/ops/test_gate_project.py.

One pass forms the gated state and its 8-bit operand without storing either in floating point; one backward pass
recomputes them.
"""

# M rows (all leading dimensions), D width, N out features

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from unmul.ops.bitlinear import EPS, Projection
from unmul.ops.product.triton import product
from unmul.ops.product_backward.triton import product_backward
from unmul.ops.rows import backward_launch, block, mean, quantise_row, sigmoid, two_norms, warps
from unmul.ops.ternarise.held import ternary_operand

__all__ = ["gate_project"]


def gate_project(
    g: torch.Tensor, h: torch.Tensor, gain: torch.Tensor, projection: Projection, eps: float
) -> torch.Tensor:
    """o_proj(RMSNorm(g) * SiLU(h)) [..., N]; see naive.gate_project."""
    outer, inner = gain.contiguous(), projection.gain.contiguous()
    y: torch.Tensor = _GateProject.apply(
        g, h, outer, eps, *ternary_operand([projection]), inner, projection.weight, projection.int8_backward
    )
    return y


class _GateProject(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, g: torch.Tensor, h: torch.Tensor, outer: torch.Tensor, eps: float,
        c_1ND: torch.Tensor, m_1: torch.Tensor, inner: torch.Tensor, weight: torch.Tensor, int8_backward: bool,
    ) -> torch.Tensor:  # fmt: skip
        g_MD, h_MD = (part.reshape(-1, g.shape[-1]).contiguous() for part in (g, h))
        q_1MD, s_1M = _gate_quantise(g_MD, h_MD, outer, inner, eps)
        y_1MN = product(q_1MD, s_1M, c_1ND, m_1, g.dtype)
        ctx.save_for_backward(g_MD, h_MD, outer, inner, q_1MD, s_1M, c_1ND, m_1)
        ctx.eps, ctx.shape, ctx.weight_dtype = eps, g.shape, weight.dtype if weight.is_floating_point() else None
        ctx.int8_backward = int8_backward
        return y_1MN.view(*g.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        g_MD, h_MD, outer, inner, q, s, c, m = ctx.saved_tensors
        grads = [grad.reshape(len(g_MD), -1)]
        (grad_n,), (grad_w,) = product_backward(grads, q, s, c, m, ctx.weight_dtype, ctx.int8_backward)
        grad_g, grad_h, grad_gains = _gate_quantise_backward(grad_n, g_MD, h_MD, outer, inner, ctx.eps)
        shaped = grad_g.view(ctx.shape), grad_h.view(ctx.shape)
        nothing = (None,) * 3
        return *shaped, grad_gains[0].to(outer.dtype), *nothing, grad_gains[1].to(inner.dtype), grad_w, None


@torch.library.custom_op("unmul::gate_quantise", mutates_args=())
def _gate_quantise(
    g: torch.Tensor, h: torch.Tensor, outer: torch.Tensor, inner: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The 8-bit operand q [1, M, D] of the gated state through the projection's norm, and its scales s [1, M]."""
    q, s = _gate_quantise_outputs(g, h, outer, inner, eps)
    rows, columns = g.shape
    _gate_quantise_kernel[(rows,)](
        g, h, outer, inner, q, s, columns, eps, EPS, block(columns), num_warps=warps(columns)
    )
    return q, s


@_gate_quantise.register_fake
def _gate_quantise_outputs(
    g: torch.Tensor, h: torch.Tensor, outer: torch.Tensor, inner: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return g.new_empty((1, *g.shape), dtype=torch.int8), g.new_empty((1, g.shape[0]), dtype=torch.float32)


@triton.jit
def _gate_quantise_kernel(p_g, p_h, p_outer, p_inner, p_q, p_s, columns, eps, inner_eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    o_k = tl.arange(0, BLOCK)
    in_row = o_k < columns
    g = tl.load(p_g + row * columns + o_k, mask=in_row, other=0.0).to(tl.float32)
    h = tl.load(p_h + row * columns + o_k, mask=in_row, other=0.0).to(tl.float32)
    scaled = g * (h * sigmoid(h)) * tl.load(p_outer + o_k, mask=in_row, other=0.0).to(tl.float32)
    outer, inner = two_norms(mean(g * g, columns), mean(scaled * scaled, columns), eps, inner_eps)
    n = scaled * tl.load(p_inner + o_k, mask=in_row, other=0.0).to(tl.float32)
    factor = outer * inner
    quantise_row(n * factor, tl.max(tl.abs(n)) * factor, p_q, p_s, row, columns, o_k, in_row)


@torch.library.custom_op("unmul::gate_quantise_backward", mutates_args=())
def _gate_quantise_backward(
    grad_n: torch.Tensor, g: torch.Tensor, h: torch.Tensor, outer: torch.Tensor, inner: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of g and h [M, D], and [2, D] of the outer and the inner gain."""
    rows, columns = g.shape
    programs, count = backward_launch(g, columns)
    grad_g, grad_h = torch.empty_like(g), torch.empty_like(h)
    shares = g.new_empty((programs, 2, columns), dtype=torch.float32)
    _gate_quantise_backward_kernel[(programs,)](
        grad_n, g, h, outer, inner, grad_g, grad_h, shares,
        rows, columns, eps, EPS, block(columns), num_warps=count,
    )  # fmt: skip
    return grad_g, grad_h, shares.sum(0)


@_gate_quantise_backward.register_fake
def _(
    grad_n: torch.Tensor, g: torch.Tensor, h: torch.Tensor, outer: torch.Tensor, inner: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.empty_like(g), torch.empty_like(h), g.new_empty((2, g.shape[1]), dtype=torch.float32)


@triton.jit
def _gate_quantise_backward_kernel(
    p_grad, p_g, p_h, p_outer, p_inner, p_grad_g, p_grad_h, p_shares,
    rows, columns, eps, inner_eps, BLOCK: tl.constexpr,
):  # fmt: skip
    program, programs = tl.program_id(0), tl.num_programs(0)
    o_k = tl.arange(0, BLOCK)
    in_row = o_k < columns
    outer_gain = tl.load(p_outer + o_k, mask=in_row, other=0.0).to(tl.float32)
    inner_gain = tl.load(p_inner + o_k, mask=in_row, other=0.0).to(tl.float32)
    outer_sum, inner_sum = outer_gain * 0, inner_gain * 0
    for step in range(0, tl.cdiv(rows, programs)):
        row = (step * programs + program).to(tl.int64)
        present = in_row & (row < rows)
        o = row * columns + o_k
        g = tl.load(p_g + o, mask=present, other=0.0).to(tl.float32)
        h = tl.load(p_h + o, mask=present, other=0.0).to(tl.float32)
        grad = tl.load(p_grad + o, mask=present, other=0.0).to(tl.float32)
        gate = sigmoid(h)
        state = h * gate
        scaled, joined = g * state * outer_gain, grad * inner_gain
        scaled_square, along = mean(scaled * scaled, columns), mean(joined * scaled, columns)
        outer, inner = two_norms(mean(g * g, columns), scaled_square, eps, inner_eps)
        unit = scaled * (outer * inner)
        inner_sum += grad * unit
        pull = along * outer * inner
        grad_z = inner * (joined - unit * pull)
        normed = g * outer
        outer_sum += grad_z * state * normed
        grad_h = grad_z * normed * outer_gain * (gate + state * (1 - gate))
        back = inner * (along - scaled_square * outer * inner * pull)  # mean of grad_z * scaled
        grad_g = outer * (grad_z * state * outer_gain - g * (outer * outer * back))
        tl.store(p_grad_g + o, grad_g.to(p_grad_g.dtype.element_ty), mask=present)
        tl.store(p_grad_h + o, grad_h.to(p_grad_h.dtype.element_ty), mask=present)
    p_shares += program * 2 * columns + o_k
    tl.store(p_shares, outer_sum, mask=in_row)
    tl.store(p_shares + columns, inner_sum, mask=in_row)

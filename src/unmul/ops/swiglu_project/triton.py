"""Same contract as naive.swiglu_project, in exact integers; compared in tests/ops/test_swiglu_project.py.

Reads gate and up where they lie, side by side; the gradient is written the same way, so nothing is ever joined.
"""

# M rows (all leading dimensions), I hidden width, N out features

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from unmul.ops.bitlinear import EPS, Projection
from unmul.ops.product.triton import product
from unmul.ops.product_backward.triton import product_backward
from unmul.ops.rows import backward_launch, block, mean, quantise_row, sigmoid, warps
from unmul.ops.ternarise.held import ternary_operand

__all__ = ["swiglu_project"]


def swiglu_project(u: torch.Tensor, projection: Projection) -> torch.Tensor:
    """down_proj(SiLU(gate) * up) [..., N]; see naive.swiglu_project."""
    y: torch.Tensor = _SwigluProject.apply(
        u, *ternary_operand([projection]), projection.gain.contiguous(), projection.weight, projection.int8_backward
    )
    return y


class _SwigluProject(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, u: torch.Tensor, c_1NI: torch.Tensor, m_1: torch.Tensor, gain: torch.Tensor, weight: torch.Tensor,
        int8_backward: bool,
    ) -> torch.Tensor:  # fmt: skip
        u_M2I = u.reshape(-1, u.shape[-1]).contiguous()
        q_1MI, s_1M = _swiglu_quantise(u_M2I, gain)
        y_1MN = product(q_1MI, s_1M, c_1NI, m_1, u.dtype)
        ctx.save_for_backward(u_M2I, gain, c_1NI, m_1)  # the widest operand is made again rather than kept
        ctx.shape, ctx.weight_dtype = u.shape, weight.dtype if weight.is_floating_point() else None
        ctx.int8_backward = int8_backward
        return y_1MN.view(*u.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        u_M2I, gain, c, m = ctx.saved_tensors
        q, s = _swiglu_quantise(u_M2I, gain)
        grads = [grad.reshape(len(u_M2I), -1)]
        (grad_n,), (grad_w,) = product_backward(grads, q, s, c, m, ctx.weight_dtype, ctx.int8_backward)
        grad_u, grad_gain = _swiglu_quantise_backward(grad_n, u_M2I, gain)
        return grad_u.view(ctx.shape), None, None, grad_gain.to(gain.dtype), grad_w, None


@torch.library.custom_op("unmul::swiglu_quantise", mutates_args=())
def _swiglu_quantise(u: torch.Tensor, gain: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The 8-bit operand q [1, M, I] of SiLU(gate) * up through the projection's norm, and its scales s [1, M]."""
    q, s = _swiglu_quantise_outputs(u, gain)
    rows, columns = q.shape[1:]
    size = block(columns)
    _swiglu_quantise_kernel[(rows,)](u, gain, q, s, columns, EPS, size, num_warps=warps(columns))
    return q, s


@_swiglu_quantise.register_fake
def _swiglu_quantise_outputs(u: torch.Tensor, gain: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    q = u.new_empty((1, u.shape[0], u.shape[1] // 2), dtype=torch.int8)
    return q, u.new_empty((1, u.shape[0]), dtype=torch.float32)


@triton.jit
def _swiglu_quantise_kernel(p_u, p_gain, p_q, p_s, columns, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    o_k = tl.arange(0, BLOCK)
    in_row = o_k < columns
    gate = tl.load(p_u + row * 2 * columns + o_k, mask=in_row, other=0.0).to(tl.float32)
    up = tl.load(p_u + (row * 2 + 1) * columns + o_k, mask=in_row, other=0.0).to(tl.float32)
    z = gate * sigmoid(gate) * up
    n = z * tl.load(p_gain + o_k, mask=in_row, other=0.0).to(tl.float32)
    inverse = tl.rsqrt(mean(z * z, columns) + eps)
    quantise_row(n * inverse, tl.max(tl.abs(n)) * inverse, p_q, p_s, row, columns, o_k, in_row)


@torch.library.custom_op("unmul::swiglu_quantise_backward", mutates_args=())
def _swiglu_quantise_backward(
    grad_n: torch.Tensor, u: torch.Tensor, gain: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of u [M, 2 I] and of the gain [I]."""
    rows, columns = grad_n.shape
    programs, count = backward_launch(u, columns)
    grad_u = torch.empty_like(u)
    shares = u.new_empty((programs, columns), dtype=torch.float32)
    _swiglu_quantise_backward_kernel[(programs,)](
        grad_n, u, gain, grad_u, shares, rows, columns, EPS, block(columns), num_warps=count
    )
    return grad_u, shares.sum(0)


@_swiglu_quantise_backward.register_fake
def _(grad_n: torch.Tensor, u: torch.Tensor, gain: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(u), u.new_empty(gain.shape, dtype=torch.float32)


@triton.jit
def _swiglu_quantise_backward_kernel(p_grad, p_u, p_gain, p_grad_u, p_shares, rows, columns, eps, BLOCK: tl.constexpr):
    program, programs = tl.program_id(0), tl.num_programs(0)
    o_k = tl.arange(0, BLOCK)
    in_row = o_k < columns
    gain = tl.load(p_gain + o_k, mask=in_row, other=0.0).to(tl.float32)
    gain_sum = gain * 0
    for step in range(0, tl.cdiv(rows, programs)):
        row = (step * programs + program).to(tl.int64)
        present = in_row & (row < rows)
        gate = tl.load(p_u + row * 2 * columns + o_k, mask=present, other=0.0).to(tl.float32)
        up = tl.load(p_u + (row * 2 + 1) * columns + o_k, mask=present, other=0.0).to(tl.float32)
        grad = tl.load(p_grad + row * columns + o_k, mask=present, other=0.0).to(tl.float32)
        open_ = sigmoid(gate)
        active = gate * open_
        z = active * up
        inverse = tl.rsqrt(mean(z * z, columns) + eps)
        unit, along = z * inverse, mean(grad * gain * z, columns) * inverse
        gain_sum += grad * unit
        grad_z = inverse * (grad * gain - unit * along)
        grad_gate = grad_z * up * (open_ + active * (1 - open_))
        p_row = p_grad_u + row * 2 * columns + o_k
        tl.store(p_row, grad_gate.to(p_grad_u.dtype.element_ty), mask=present)
        tl.store(p_row + columns, (grad_z * active).to(p_grad_u.dtype.element_ty), mask=present)
    tl.store(p_shares + program * columns + o_k, gain_sum, mask=in_row)

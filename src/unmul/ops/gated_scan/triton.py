"""Same contract as naive.gated_scan; compared in tests/ops/test_gated_scan.py.

A program owns a few columns of one sequence and walks over tiles of time: inside a tile an associative scan, between
tiles a carry in float32 registers. The gates are formed on the way, in both directions. States come out in i's dtype.
"""

# B batch, T time, D width; b_ block

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from unmul.ops.gated_scan.naive import PADDING, START
from unmul.ops.rows import sigmoid

__all__ = ["gated_scan"]

TIME, WIDTH = 32, 32  # the tile
NO_TOKEN, FIRST = tl.constexpr(PADDING), tl.constexpr(START)


def gated_scan(
    f_BTD: torch.Tensor,
    i_BTD: torch.Tensor,
    state_BD: torch.Tensor,
    bound_D: torch.Tensor | None,
    mask_BT: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Every state [B, T, D] in i's dtype and the last one [B, D] in float32; see naive.gated_scan."""
    mask_BT = None if mask_BT is None else mask_BT.to(torch.int8).contiguous()
    h_BTD, last_BD = _GatedScan.apply(f_BTD.contiguous(), i_BTD.contiguous(), state_BD.float(), bound_D, mask_BT)
    return h_BTD, last_BD


class _GatedScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, f_BTD: torch.Tensor, i_BTD: torch.Tensor, state_BD: torch.Tensor,
        bound_D: torch.Tensor | None, mask_BT: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        h_BTD, last_BD = _scan(f_BTD, i_BTD, state_BD, bound_D, mask_BT)
        ctx.save_for_backward(f_BTD, i_BTD, h_BTD, state_BD, bound_D, mask_BT)
        return h_BTD, last_BD

    @staticmethod
    def backward(ctx: Any, grad_BTD: torch.Tensor, grad_last_BD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        f_BTD, i_BTD, h_BTD, state_BD, bound_D, mask_BT = ctx.saved_tensors
        grad_f, grad_i, grad_state, grad_bound = _scan_backward(
            grad_BTD.contiguous(), grad_last_BD, f_BTD, i_BTD, h_BTD, state_BD, bound_D, mask_BT
        )
        return grad_f, grad_i, grad_state, None if bound_D is None else grad_bound, None


@torch.library.custom_op("unmul::gated_scan", mutates_args=())
def _scan(
    f: torch.Tensor, i: torch.Tensor, state: torch.Tensor, bound: torch.Tensor | None, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, time, width = f.shape
    h, last = torch.empty_like(i), torch.empty_like(state)
    _scan_kernel[(triton.cdiv(width, WIDTH), batch)](
        f, i, state.contiguous(), f if bound is None else bound, f if mask is None else mask, h, last,
        time, width, bound is not None, mask is not None, TIME, WIDTH, num_warps=2,
    )  # fmt: skip
    return h, last


@_scan.register_fake
def _(
    f: torch.Tensor, i: torch.Tensor, state: torch.Tensor, bound: torch.Tensor | None, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(i), torch.empty_like(state)


@triton.jit
def _compose(decay0, value0, decay1, value1):
    """Two steps h -> decay h + value as one."""
    return decay0 * decay1, decay1 * value0 + value1


@triton.jit
def _masked(decay, kind):
    """The decay as the mask has it: padding keeps the state, a first token drops it."""
    return tl.where(kind == NO_TOKEN, 1.0, tl.where(kind == FIRST, 0.0, decay))


@triton.jit
def _row(tile, index, BLOCK_T: tl.constexpr):
    return tl.sum(tl.where((tl.arange(0, BLOCK_T) == index)[:, None], tile, 0.0), 0)


@triton.jit
def _scan_kernel(
    p_f, p_i, p_state, p_bound, p_mask, p_h, p_last, time, width,
    HAS_BOUND: tl.constexpr, HAS_MASK: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    sequence = tl.program_id(1).to(tl.int64)
    o_d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    in_d = o_d < width
    bound = tl.zeros([BLOCK_D], tl.float32)
    if HAS_BOUND:
        bound = tl.load(p_bound + o_d, mask=in_d, other=0.0).to(tl.float32)
    carry = tl.load(p_state + sequence * width + o_d, mask=in_d, other=0.0)
    for start in range(0, time, BLOCK_T):
        o_t = start + tl.arange(0, BLOCK_T)
        o = (sequence * time + o_t)[:, None] * width + o_d[None, :]
        inside = (o_t < time)[:, None] & in_d[None, :]
        open_ = sigmoid(tl.load(p_f + o, mask=inside, other=0.0).to(tl.float32))
        i = tl.load(p_i + o, mask=inside, other=0.0).to(tl.float32)
        closed = (1 - bound)[None, :] * (1 - open_)
        decay, value = 1 - closed, i * sigmoid(i) * closed
        if HAS_MASK:
            kind = tl.load(p_mask + sequence * time + o_t, mask=o_t < time, other=NO_TOKEN)[:, None]
            decay, value = _masked(decay, kind), tl.where(kind == NO_TOKEN, 0.0, value)
        decay, value = tl.where(inside, decay, 1.0), tl.where(inside, value, 0.0)
        decay, value = tl.associative_scan((decay, value), 0, _compose)
        h = decay * carry[None, :] + value
        tl.store(p_h + o, h.to(p_h.dtype.element_ty), mask=inside)
        carry = _row(h, BLOCK_T - 1, BLOCK_T)
    tl.store(p_last + sequence * width + o_d, carry, mask=in_d)


@torch.library.custom_op("unmul::gated_scan_backward", mutates_args=())
def _scan_backward(
    grad: torch.Tensor,
    grad_last: torch.Tensor,
    f: torch.Tensor,
    i: torch.Tensor,
    h: torch.Tensor,
    state: torch.Tensor,
    bound: torch.Tensor | None,
    mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of f, i [B, T, D], state [B, D] and bound [D]."""
    batch, time, width = f.shape
    grad_f, grad_i, grad_state = torch.empty_like(f), torch.empty_like(i), torch.empty_like(state)
    shares = torch.empty_like(state)  # of the bound's gradient, one for each sequence
    _scan_backward_kernel[(triton.cdiv(width, WIDTH), batch)](
        grad, grad_last.contiguous(), f, i, h, state.contiguous(), f if bound is None else bound,
        f if mask is None else mask, grad_f, grad_i, grad_state, shares,
        time, width, bound is not None, mask is not None, TIME, WIDTH, num_warps=2,
    )  # fmt: skip
    return grad_f, grad_i, grad_state, shares.sum(0)


@_scan_backward.register_fake
def _(
    grad: torch.Tensor,
    grad_last: torch.Tensor,
    f: torch.Tensor,
    i: torch.Tensor,
    h: torch.Tensor,
    state: torch.Tensor,
    bound: torch.Tensor | None,
    mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.empty_like(f), torch.empty_like(i), torch.empty_like(state), state.new_empty(state.shape[1])


@triton.jit
def _scan_backward_kernel(
    p_grad, p_grad_last, p_f, p_i, p_h, p_state, p_bound, p_mask, p_grad_f, p_grad_i, p_grad_state, p_shares,
    time, width, HAS_BOUND: tl.constexpr, HAS_MASK: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    sequence = tl.program_id(1).to(tl.int64)
    o_d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    in_d = o_d < width
    bound, bound_sum = tl.zeros([BLOCK_D], tl.float32), tl.zeros([BLOCK_D], tl.float32)
    if HAS_BOUND:
        bound = tl.load(p_bound + o_d, mask=in_d, other=0.0).to(tl.float32)
    state = tl.load(p_state + sequence * width + o_d, mask=in_d, other=0.0)
    carry = tl.load(p_grad_last + sequence * width + o_d, mask=in_d, other=0.0)  # of h_t from what came after t
    for back in range(0, tl.cdiv(time, BLOCK_T)):
        o_t = (tl.cdiv(time, BLOCK_T) - 1 - back) * BLOCK_T + tl.arange(0, BLOCK_T)
        o = (sequence * time + o_t)[:, None] * width + o_d[None, :]
        inside = (o_t < time)[:, None] & in_d[None, :]
        later = (o_t + 1 < time)[:, None] & in_d[None, :]
        open_ = sigmoid(tl.load(p_f + o, mask=inside, other=0.0).to(tl.float32))
        next_open = sigmoid(tl.load(p_f + o + width, mask=later, other=0.0).to(tl.float32))
        i = tl.load(p_i + o, mask=inside, other=0.0).to(tl.float32)
        grad = tl.load(p_grad + o, mask=inside, other=0.0).to(tl.float32)
        before = tl.load(p_h + o - width, mask=inside & (o_t > 0)[:, None], other=0.0).to(tl.float32)
        before = tl.where((o_t == 0)[:, None], state[None, :], before)
        closed = (1 - bound)[None, :] * (1 - open_)
        next_decay = 1 - (1 - bound)[None, :] * (1 - next_open)
        if HAS_MASK:
            kind = tl.load(p_mask + sequence * time + o_t, mask=o_t < time, other=NO_TOKEN)[:, None]
            next_kind = tl.load(p_mask + sequence * time + o_t + 1, mask=o_t + 1 < time, other=NO_TOKEN)[:, None]
            before, next_decay = tl.where(kind == FIRST, 0.0, before), _masked(next_decay, next_kind)
        next_decay = tl.where(later, next_decay, 1.0)
        decay, value = tl.associative_scan((next_decay, grad), 0, _compose, reverse=True)
        grad_h = decay * carry[None, :] + value
        gate = sigmoid(i)
        active = i * gate
        grad_i = grad_h * closed * (gate + active * (1 - gate))
        grad_decay = grad_h * (before - active)
        if HAS_MASK:
            grad_i = tl.where(kind == NO_TOKEN, 0.0, grad_i)
            grad_decay = tl.where(kind == NO_TOKEN, 0.0, grad_decay)
        grad_f = grad_decay * closed * open_
        bound_sum += tl.sum(tl.where(inside, grad_decay * (1 - open_), 0.0), 0)
        tl.store(p_grad_i + o, grad_i.to(p_grad_i.dtype.element_ty), mask=inside)
        tl.store(p_grad_f + o, grad_f.to(p_grad_f.dtype.element_ty), mask=inside)
        carry = _row(grad_h, 0, BLOCK_T)
    first = tl.load(p_f + sequence * time * width + o_d, mask=in_d, other=0.0).to(tl.float32)
    decay = 1 - (1 - bound) * (1 - sigmoid(first))
    if HAS_MASK:
        decay = _masked(decay, tl.load(p_mask + sequence * time))
    tl.store(p_grad_state + sequence * width + o_d, carry * decay, mask=in_d)
    tl.store(p_shares + sequence * width + o_d, bound_sum, mask=in_d)

"""Same contract as naive.gated_scan; compared in tests/ops/test_gated_scan.py.

A warp owns 32 columns of one sequence, a thread each, and walks through time with the state in a float32 register
while the next rows are on their way from memory. The gates are formed on the way, in both directions. Where there are
too few such warps for the GPU, time is split: see segments.py.
"""

# B batch, T time, D width, S segments of time

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from unmul.ops.gated_scan.gates import bound_row, closed_gate, load_rows, masked
from unmul.ops.gated_scan.naive import PADDING, START
from unmul.ops.gated_scan.segments import carried, carries, carries_backward, segment_length
from unmul.ops.rows import sigmoid

__all__ = ["gated_scan"]

WIDTH = 32  # columns of a program, one a thread
ROWS, BACKWARD_ROWS = 32, 16  # that are loaded ahead
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
    bound_D = None if bound_D is None else bound_D.contiguous()
    gates = f_BTD.contiguous(), i_BTD.contiguous()
    h_BTD, last_BD = _GatedScan.apply(*gates, state_BD.float().contiguous(), bound_D, mask_BT)
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
    segment = segment_length(f, ROWS, WIDTH)
    pieces = triton.cdiv(time, segment)
    decay, value = (state, state) if pieces == 1 else carries(f, i, bound, mask, segment, ROWS, WIDTH)
    _scan_kernel[(triton.cdiv(width, WIDTH), pieces, batch)](
        f, i, state, f if bound is None else bound, f if mask is None else mask, decay, value, h, last,
        time, width, segment, bound is not None, mask is not None, pieces > 1, time % ROWS == 0, ROWS, WIDTH,
        num_warps=1,
    )  # fmt: skip
    return h, last


@_scan.register_fake
def _(
    f: torch.Tensor, i: torch.Tensor, state: torch.Tensor, bound: torch.Tensor | None, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(i), torch.empty_like(state)


@triton.jit
def _scan_kernel(
    p_f, p_i, p_state, p_bound, p_mask, p_decay, p_value, p_h, p_last, time, width, segment,
    HAS_BOUND: tl.constexpr, HAS_MASK: tl.constexpr, SPLIT: tl.constexpr, WHOLE: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    piece, pieces, sequence = tl.program_id(1), tl.num_programs(1), tl.program_id(2).to(tl.int64)
    o_d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    in_d = o_d < width
    p_f += sequence * time * width
    p_i += sequence * time * width
    p_h += sequence * time * width
    bound = bound_row(p_bound, o_d, in_d, HAS_BOUND)
    h = tl.load(p_state + sequence * width + o_d, mask=in_d, other=0.0)
    first, stop = 0, time
    if SPLIT:
        h = carried(h, p_decay, p_value, 0, 1, piece, sequence * pieces, width, o_d, in_d)
        first, stop = piece * segment, min((piece + 1) * segment, time)
    fs = load_rows(p_f, first, 1, stop, width, o_d, in_d, ROWS, WHOLE)
    gates = load_rows(p_i, first, 1, stop, width, o_d, in_d, ROWS, WHOLE)
    for start in range(first, stop, ROWS):
        after = min(start + ROWS, stop - ROWS) if WHOLE else start + ROWS  # the last block is asked for twice
        next_fs = load_rows(p_f, after, 1, stop, width, o_d, in_d, ROWS, WHOLE)
        next_gates = load_rows(p_i, after, 1, stop, width, o_d, in_d, ROWS, WHOLE)
        for index in tl.static_range(ROWS):
            t = start + index
            closed, _ = closed_gate(fs[index], bound)
            i = gates[index].to(tl.float32)
            decay, value = 1 - closed, i * sigmoid(i) * closed
            if HAS_MASK:
                kind = tl.load(p_mask + sequence * time + t, mask=t < stop, other=NO_TOKEN)
                decay, value = masked(decay, kind), tl.where(kind == NO_TOKEN, 0.0, value)
            present = in_d if WHOLE else in_d & (t < stop)
            h = tl.where(present, decay * h + value, h)
            tl.store(p_h + t * width + o_d, h.to(p_h.dtype.element_ty), mask=present)
        fs, gates = next_fs, next_gates
    tl.store(p_last + sequence * width + o_d, h, mask=in_d & (piece == pieces - 1))


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
    segment = segment_length(f, BACKWARD_ROWS, WIDTH)
    pieces = triton.cdiv(time, segment)
    shares = state.new_empty((batch * pieces, width))  # of the bound's gradient, one for each segment
    split = carries_backward(f, grad, bound, mask, segment, BACKWARD_ROWS, WIDTH) if pieces > 1 else (state, state)
    _scan_backward_kernel[(triton.cdiv(width, WIDTH), pieces, batch)](
        grad, grad_last.contiguous(), f, i, h, state, f if bound is None else bound,
        f if mask is None else mask, *split, grad_f, grad_i, grad_state, shares, time, width, segment,
        bound is not None, mask is not None, pieces > 1, time % BACKWARD_ROWS == 0, BACKWARD_ROWS, WIDTH, num_warps=1,
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
    p_grad, p_grad_last, p_f, p_i, p_h, p_state, p_bound, p_mask, p_decay, p_value, p_grad_f, p_grad_i, p_grad_state,
    p_shares, time, width, segment,
    HAS_BOUND: tl.constexpr, HAS_MASK: tl.constexpr, SPLIT: tl.constexpr, WHOLE: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    piece, pieces, sequence = tl.program_id(1), tl.num_programs(1), tl.program_id(2).to(tl.int64)
    o_d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    in_d = o_d < width
    base = sequence * time * width
    bound, bound_sum = bound_row(p_bound, o_d, in_d, HAS_BOUND), tl.zeros([BLOCK], tl.float32)
    state = tl.load(p_state + sequence * width + o_d, mask=in_d, other=0.0)
    later = tl.load(p_grad_last + sequence * width + o_d, mask=in_d, other=0.0)  # what comes back from t + 1
    first, stop = 0, time
    if SPLIT:
        after = pieces - 1 - piece
        later = carried(later, p_decay, p_value, pieces - 1, -1, after, sequence * pieces, width, o_d, in_d)
        first, stop = piece * segment, min((piece + 1) * segment, time)
    end = stop - 1
    fs = load_rows(p_f + base, end, -1, stop, width, o_d, in_d, ROWS, WHOLE)
    gates = load_rows(p_i + base, end, -1, stop, width, o_d, in_d, ROWS, WHOLE)
    grads = load_rows(p_grad + base, end, -1, stop, width, o_d, in_d, ROWS, WHOLE)
    befores = load_rows(p_h + base, end - 1, -1, stop, width, o_d, in_d, ROWS, False)
    for back in range(0, stop - first, ROWS):
        start = end - back
        after = max(start - ROWS, first + ROWS - 1) if WHOLE else start - ROWS
        next_fs = load_rows(p_f + base, after, -1, stop, width, o_d, in_d, ROWS, WHOLE)
        next_gates = load_rows(p_i + base, after, -1, stop, width, o_d, in_d, ROWS, WHOLE)
        next_grads = load_rows(p_grad + base, after, -1, stop, width, o_d, in_d, ROWS, WHOLE)
        next_befores = load_rows(p_h + base, after - 1, -1, stop, width, o_d, in_d, ROWS, False)
        for index in tl.static_range(ROWS):
            t = start - index
            closed, open_ = closed_gate(fs[index], bound)
            i = gates[index].to(tl.float32)
            before = tl.where(t == 0, state, befores[index].to(tl.float32))
            grad_h = grads[index].to(tl.float32) + later
            gate = sigmoid(i)
            active = i * gate
            grad_i = grad_h * closed * (gate + active * (1 - gate))
            decay, grad_decay = 1 - closed, grad_h * (before - active)
            if HAS_MASK:
                kind = tl.load(p_mask + sequence * time + t, mask=t >= first, other=NO_TOKEN)
                decay, grad_i = masked(decay, kind), tl.where(kind == NO_TOKEN, 0.0, grad_i)
                grad_decay = tl.where(kind == FIRST, -grad_h * active, tl.where(kind == NO_TOKEN, 0.0, grad_decay))
            present = in_d if WHOLE else in_d & (t >= first)
            later = tl.where(present, decay * grad_h, later)
            grad_f = grad_decay * closed * open_
            bound_sum += tl.where(present, grad_decay * (1 - open_), 0.0)
            tl.store(p_grad_i + base + t * width + o_d, grad_i.to(p_grad_i.dtype.element_ty), mask=present)
            tl.store(p_grad_f + base + t * width + o_d, grad_f.to(p_grad_f.dtype.element_ty), mask=present)
        fs, gates, grads, befores = next_fs, next_gates, next_grads, next_befores
    tl.store(p_grad_state + sequence * width + o_d, later, mask=in_d & (piece == 0))
    tl.store(p_shares + (sequence * pieces + piece) * width + o_d, bound_sum, mask=in_d)

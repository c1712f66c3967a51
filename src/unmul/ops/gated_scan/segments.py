"""Where few columns would leave most of a GPU idle: time in segments that are walked side by side.

Over a segment the recurrence is h -> decay h + value. A first pass finds both numbers for every segment, and a second
one then starts each from the state that those before it hand on. It reads the gates twice, so long sequences of many
columns stay whole.
"""

# B batch, T time, D width, S segments

from __future__ import annotations

import torch
import triton
import triton.language as tl

from unmul.ops.gated_scan.gates import bound_row, closed_gate, load_rows, masked
from unmul.ops.gated_scan.naive import PADDING
from unmul.ops.rows import sigmoid

__all__ = ["Carries", "carried", "carries", "carries_backward", "segment_length"]

PROGRAMS = 32  # a multiprocessor, a warp each, that keep it busy
FEWEST = 12  # segments: what fewer would gain goes into reading the gates twice
SHORTEST = 128  # rows
NO_TOKEN = tl.constexpr(PADDING)
Carries = tuple[torch.Tensor, torch.Tensor]


def segment_length(x_BTD: torch.Tensor, rows: int, columns: int) -> int:
    """Rows of a segment, a multiple of `rows`; all of T where B x D / columns programs are enough for the GPU."""
    batch, time, width = x_BTD.shape
    if not x_BTD.is_cuda:
        return rows
    multiprocessors = torch.cuda.get_device_properties(x_BTD.device).multi_processor_count
    wanted = PROGRAMS * multiprocessors // (batch * triton.cdiv(width, columns))
    if wanted < FEWEST:
        return triton.cdiv(time, rows) * rows
    return max(triton.cdiv(triton.cdiv(time, wanted), rows) * rows, SHORTEST)


def carries(
    f: torch.Tensor, i: torch.Tensor, bound: torch.Tensor | None, mask: torch.Tensor | None, segment: int, rows: int,
    columns: int,
) -> Carries:  # fmt: skip
    """decay and value [B, S, D] of every segment, forward in time."""
    batch, time, width = f.shape
    pieces = triton.cdiv(time, segment)
    decay, value = f.new_empty((2, batch, pieces, width), dtype=torch.float32).unbind()
    _carries_kernel[(triton.cdiv(width, columns), pieces, batch)](
        f, i, f if bound is None else bound, f if mask is None else mask, decay, value,
        time, width, segment, bound is not None, mask is not None, rows, columns, num_warps=1,
    )  # fmt: skip
    return decay, value


def carries_backward(
    f: torch.Tensor, grad: torch.Tensor, bound: torch.Tensor | None, mask: torch.Tensor | None, segment: int,
    rows: int, columns: int,
) -> Carries:  # fmt: skip
    """The same for the gradient of the state, backward in time: what a segment hands to the one before it."""
    batch, time, width = f.shape
    pieces = triton.cdiv(time, segment)
    decay, value = f.new_empty((2, batch, pieces, width), dtype=torch.float32).unbind()
    _carries_backward_kernel[(triton.cdiv(width, columns), pieces, batch)](
        f, grad, f if bound is None else bound, f if mask is None else mask, decay, value,
        time, width, segment, bound is not None, mask is not None, rows, columns, num_warps=1,
    )  # fmt: skip
    return decay, value


@triton.jit
def carried(h, p_decay, p_value, first, step, count, o_first, width, o_d, in_d):
    """h after `count` segments of a sequence: first, first + step, ..."""
    for index in range(0, count):
        o = (o_first + first + step * index) * width + o_d
        h = tl.load(p_decay + o, mask=in_d, other=0.0) * h + tl.load(p_value + o, mask=in_d, other=0.0)
    return h


@triton.jit
def _carries_kernel(
    p_f, p_i, p_bound, p_mask, p_decay, p_value, time, width, segment,
    HAS_BOUND: tl.constexpr, HAS_MASK: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    piece, sequence = tl.program_id(1), tl.program_id(2).to(tl.int64)
    o_d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    in_d = o_d < width
    base = sequence * time * width
    bound = bound_row(p_bound, o_d, in_d, HAS_BOUND)
    product, h = tl.full([BLOCK], 1.0, tl.float32), tl.zeros([BLOCK], tl.float32)
    stop = min((piece + 1) * segment, time)
    for start in range(piece * segment, stop, ROWS):
        fs = load_rows(p_f + base, start, 1, stop, width, o_d, in_d, ROWS, False)
        gates = load_rows(p_i + base, start, 1, stop, width, o_d, in_d, ROWS, False)
        for index in tl.static_range(ROWS):
            t = start + index
            closed, _ = closed_gate(fs[index], bound)
            i = gates[index].to(tl.float32)
            decay, value = 1 - closed, i * sigmoid(i) * closed
            if HAS_MASK:
                kind = tl.load(p_mask + sequence * time + t, mask=t < stop, other=NO_TOKEN)
                decay, value = masked(decay, kind), tl.where(kind == NO_TOKEN, 0.0, value)
            present = in_d & (t < stop)
            h = tl.where(present, decay * h + value, h)
            product = tl.where(present, decay * product, product)
    o = (sequence * tl.num_programs(1) + piece) * width + o_d
    tl.store(p_decay + o, product, mask=in_d)
    tl.store(p_value + o, h, mask=in_d)


@triton.jit
def _carries_backward_kernel(
    p_f, p_grad, p_bound, p_mask, p_decay, p_value, time, width, segment,
    HAS_BOUND: tl.constexpr, HAS_MASK: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    piece, sequence = tl.program_id(1), tl.program_id(2).to(tl.int64)
    o_d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    in_d = o_d < width
    base = sequence * time * width
    bound = bound_row(p_bound, o_d, in_d, HAS_BOUND)
    product, later = tl.full([BLOCK], 1.0, tl.float32), tl.zeros([BLOCK], tl.float32)
    first, stop = piece * segment, min((piece + 1) * segment, time)
    for back in range(0, stop - first, ROWS):
        start = stop - 1 - back
        fs = load_rows(p_f + base, start, -1, stop, width, o_d, in_d, ROWS, False)
        grads = load_rows(p_grad + base, start, -1, stop, width, o_d, in_d, ROWS, False)
        for index in tl.static_range(ROWS):
            t = start - index
            decay = 1 - closed_gate(fs[index], bound)[0]
            if HAS_MASK:
                decay = masked(decay, tl.load(p_mask + sequence * time + t, mask=t >= first, other=NO_TOKEN))
            present = in_d & (t >= first)
            later = tl.where(present, decay * (grads[index].to(tl.float32) + later), later)
            product = tl.where(present, decay * product, product)
    o = (sequence * tl.num_programs(1) + piece) * width + o_d
    tl.store(p_decay + o, product, mask=in_d)
    tl.store(p_value + o, later, mask=in_d)

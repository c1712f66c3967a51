"""What the kernels of the gated scan share: how rows are loaded, and the forget gate with its mask."""

from __future__ import annotations

import triton
import triton.language as tl

from unmul.ops.gated_scan.naive import PADDING, START
from unmul.ops.rows import sigmoid

__all__ = ["bound_row", "closed_gate", "load_rows", "masked"]

NO_TOKEN, FIRST = tl.constexpr(PADDING), tl.constexpr(START)


@triton.jit
def bound_row(p_bound, o_d, in_d, HAS_BOUND: tl.constexpr):
    """Lower bounds of the columns, zeros without."""
    bound = tl.zeros(o_d.shape, tl.float32)
    if HAS_BOUND:
        bound = tl.load(p_bound + o_d, mask=in_d, other=0.0).to(tl.float32)
    return bound


@triton.jit
def closed_gate(f, bound):
    """1 - f of the bounded forget gate, without cancellation, and the sigmoid inside."""
    open_ = sigmoid(f.to(tl.float32))
    return (1 - bound) * (1 - open_), open_


@triton.jit
def masked(decay, kind):
    """The decay as the mask has it: padding keeps the state, a first token drops it."""
    return tl.where(kind == NO_TOKEN, 1.0, tl.where(kind == FIRST, 0.0, decay))


@triton.jit
def load_rows(p_rows, start, step: tl.constexpr, time, width, o_d, in_d, COUNT: tl.constexpr, WHOLE: tl.constexpr):
    """Rows start, start + step, ... of one sequence; zeros outside of time, of which a whole block is never asked."""
    rows = ()  # no annotation: the compiler would look its name up
    for index in tl.static_range(COUNT):
        t = start + step * index
        present = in_d if WHOLE else in_d & (t >= 0) & (t < time)
        row = tl.load(p_rows + t * width + o_d, mask=present, other=0.0)
        rows = rows + (row,)  # type: ignore[assignment] # noqa: RUF005 - tuples here do not unpack
    return rows

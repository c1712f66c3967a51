"""What the Triton kernels that work row by row share: norms, rounding to 8 bits, and how rows are handed out.

All sums over a row are taken of what was loaded, side by side, and combined afterwards as scalars; with
x / rms(x) first, each norm would wait for the one before.
"""

# K columns; a row is held whole, in a block of the next power of two

from __future__ import annotations

import torch
import triton
import triton.language as tl

__all__ = ["backward_launch", "block", "mean", "quantise_row", "rint", "sigmoid", "two_norms", "warps"]

SMALLEST = tl.constexpr(1e-5)  # as in ternary.py: no scale is taken of less


@triton.jit
def rint(x):
    """The nearest whole number, halves to even, for |x| < 2^22: adding 1.5 * 2^23 leaves no bits for a fraction."""
    return (x + 12582912.0) - 12582912.0


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x)); the square of an inverse root is one instruction less than a division is six."""
    root = tl.rsqrt(1 + tl.exp(-x))
    return root * root


@triton.jit
def mean(x, columns):
    """Mean of a row whose masked end is zero."""
    return tl.sum(x) / columns


@triton.jit
def two_norms(x_square, scaled_square, outer_eps, inner_eps):
    """1/rms of x, and of x/rms(x) * scale, from the means of x^2 and (x * scale)^2: neither waits for the other."""
    outer = tl.rsqrt(x_square + outer_eps)
    return outer, tl.rsqrt(scaled_square * outer * outer + inner_eps)


@triton.jit
def quantise_row(n, largest, p_q, p_s, row, columns, o_k, in_row):
    """Store q = rint(n s) as int8 and s = 127 (1 / largest), in ternary.quantise's order of rounding."""
    s = 127.0 * tl.div_rn(1.0, tl.maximum(largest, SMALLEST))
    tl.store(p_q + row * columns + o_k, rint(n * s).to(tl.int8), mask=in_row)
    tl.store(p_s + row, s)


def block(columns: int) -> int:
    """The block that holds a row."""
    return triton.next_power_of_2(columns)


def warps(columns: int) -> int:
    """Warps for a row of a forward pass."""
    return max(4, min(8, block(columns) // 256))


def backward_launch(x: torch.Tensor, columns: int) -> tuple[int, int]:
    """Programs that share the rows of x in a backward pass, and their warps.

    A thread has eight columns and up to 128 registers, so a multiprocessor holds sixteen warps; a second program of
    sixteen still helps. Each program sums the gradients of gains over its rows on its own.
    """
    count = max(4, min(16, block(columns) // 256))
    if not x.is_cuda:
        return min(x.shape[0], 3), count
    multiprocessors = torch.cuda.get_device_properties(x.device).multi_processor_count
    return min(x.shape[0], multiprocessors * max(2, 16 // count)), count

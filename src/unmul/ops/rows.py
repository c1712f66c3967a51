"""What the Triton kernels that work row by row share: norms, rounding to 8 bits, and how rows are handed out."""

# K columns; a row is held whole, in a block of the next power of two

from __future__ import annotations

import torch
import triton
import triton.language as tl

__all__ = ["backward_programs", "block", "quantise_row", "rint", "rms", "sigmoid", "through_norm", "warps"]

SMALLEST = tl.constexpr(1e-5)  # as in ternary.py: no scale is taken of less


@triton.jit
def rint(x):
    """The nearest whole number, halves to even, for |x| < 2^22: adding 1.5 * 2^23 leaves no bits for a fraction."""
    return (x + 12582912.0) - 12582912.0


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return 1 / (1 + tl.exp(-x))


@triton.jit
def rms(x, columns, eps):
    """1 / sqrt(mean(x^2) + eps) of a row whose masked end is zero."""
    return tl.rsqrt(tl.sum(x * x) / columns + eps)


@triton.jit
def quantise_row(n, p_q, p_s, row, columns, o_k, in_row):
    """Store q = rint(n s) as int8 and s = 127 (1 / max|n|), in ternary.quantise's order of rounding."""
    s = 127.0 * tl.div_rn(1.0, tl.maximum(tl.max(tl.abs(n)), SMALLEST))
    tl.store(p_q + row * columns + o_k, rint(n * s).to(tl.int8), mask=in_row)
    tl.store(p_s + row, s)


@triton.jit
def through_norm(grad, unit, inverse_rms, columns):
    """The gradient of x, given that of unit = x * inverse_rms."""
    return inverse_rms * (grad - unit * (tl.sum(grad * unit) / columns))


def block(columns: int) -> int:
    """The block that holds a row."""
    return triton.next_power_of_2(columns)


def warps(columns: int) -> int:
    """Warps for a row: eight values a thread, at least four warps and at most sixteen."""
    return max(4, min(16, block(columns) // 256))


def backward_programs(x: torch.Tensor) -> int:
    """Programs that share the rows of a backward pass; each sums gradients of gains on its own."""
    return min(x.shape[0], 2 * torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 3)

"""What every unit computes, to the bit: integer functions in NumPy that the RTL must equal. No unit rounds otherwise.

Vectors are int64 arrays [..., n] that hold the int32 values of a register; leading dimensions are independent tokens.
Functions that write a vector return it before saturation: `saturate` clips and counts, once, on the way to a register.
A right shift rounds down; where a function says "rounded", half of the last place is added before it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from unmul.gateware.scalar import Ints, Scalar, add, bit_length, from_int, multiply, rsqrt, shift

__all__ = [
    "BOUND_BITS",
    "FRACTION_BITS",
    "RECIPROCAL_DELTAS",
    "RECIPROCAL_VALUES",
    "SIGMOID_DELTAS",
    "SIGMOID_VALUES",
    "Statistics",
    "gate",
    "low_bits",
    "mul",
    "norm",
    "quantise",
    "reciprocal",
    "rescale",
    "root",
    "saturate",
    "scan",
    "sigmoid",
    "silu",
    "statistics",
    "top",
]

FRACTION_BITS = 20  # of activations, gates, state and logits: int32, -2048 to 2048 in steps of 1e-6
BOUND_BITS = 15  # fraction bits of 1 - lower bound
OPERAND_BITS = 17  # magnitude of an 18-bit multiplier operand
QUANT_BITS = 26  # fraction bits of reciprocal's result


class Statistics(NamedTuple):
    """What the first pass of norm and quant finds: products u, their largest magnitude, sum(va^2), top of va."""

    products: Ints
    largest: Ints
    squares: Scalar
    top: Ints


def saturate(x: Ints) -> tuple[Ints, int]:
    """Values clipped to int32, and how many were not in it."""
    clipped = x.clip(-(1 << 31), (1 << 31) - 1)
    return clipped, int((clipped != x).sum())


def low_bits(x: Ints, bits: int) -> Ints:
    """The lowest bits of x as a signed number: what a narrow operand takes of a register."""
    half = 1 << bits - 1
    return ((x + half) & (1 << bits) - 1) - half


def top(x: Ints) -> Ints:
    """Smallest t with -2^t <= x < 2^t for all of a vector: [..., n] -> [..., 1], 0 to 31."""
    return bit_length((x ^ x >> 63).max(-1, keepdims=True))


def statistics(va: Ints, vb: Ints) -> Statistics:
    """First pass: x = va * 2^(17 - t), 18 bits; u = x * vb, vb's low 16 bits; the sum of x^2 in va's units."""
    t = top(va)
    x = shift(va, OPERAND_BITS - t)
    u = x * low_bits(vb, 16)
    squares = from_int((x * x).sum(-1, keepdims=True), 2 * (t - OPERAND_BITS))
    return Statistics(u, np.abs(u).max(-1, keepdims=True), squares, t)


def root(squares: Scalar, sa: Scalar, sb: Scalar) -> Scalar:
    """sb * rsqrt(sum(va^2) + sa)."""
    return multiply(rsqrt(add(squares, sa)), sb)


def norm(va: Ints, vb: Ints, sa: Scalar, sb: Scalar) -> Ints:
    """va * vb * root, rounded."""
    found = statistics(va, vb)
    r = root(found.squares, sa, sb)
    return rescale(found.products * r.mantissa, r.exponent + found.top - OPERAND_BITS)


def quantise(va: Ints, vb: Ints, sa: Scalar, sb: Scalar) -> tuple[Ints, Scalar]:
    """Codes -127..127 of va * vb, and their scale max|va * vb| * root."""
    found = statistics(va, vb)
    up = OPERAND_BITS - bit_length(found.largest)
    inverse = reciprocal(shift(found.largest, up))
    q = shift(found.products, up) * inverse + (1 << QUANT_BITS - 1) >> QUANT_BITS
    scale = from_int(found.largest, found.top - OPERAND_BITS)
    return q, multiply(scale, root(found.squares, sa, sb))


def reciprocal(x: Ints) -> Ints:
    """127 * 2^26 / x for x in [2^16, 2^17): 256 table values with differences, linear in between; 0 for x = 0."""
    entry = x >> 8 & 255
    inverse = RECIPROCAL_VALUES[entry] - (RECIPROCAL_DELTAS[entry] * (x & 255) + 128 >> 8)
    return np.where(x == 0, 0, inverse)


def rescale(x: Ints, exponent: Ints) -> Ints:
    """x * 2^exponent rounded, |x| < 2^51; an exponent above 0 is out of range: anything but 0 saturates."""
    down = (-exponent).clip(0, 63)
    half = np.left_shift(1, down - (down > 0)) * (down > 0)
    return np.where(exponent > 0, np.sign(x) << 62, x + half >> down)


def sigmoid(x: Ints) -> Ints:
    """sigmoid(x), 0 to 2^20: 512 knots 1/32 apart on [0, 16), linear in between, rounded; beyond it 0 or 1."""
    magnitude = np.abs(x)
    entry = np.minimum(magnitude >> 15, SIGMOID_VALUES.size - 1)
    below = SIGMOID_VALUES[entry] - (SIGMOID_DELTAS[entry] * (magnitude & 0x7FFF) + 0x4000 >> 15)
    below = np.where(magnitude >> 15 >= SIGMOID_VALUES.size, 0, below)
    return np.where(x < 0, below, (1 << FRACTION_BITS) - below)


def silu(va: Ints) -> Ints:
    """va * sigmoid(va), rounded."""
    return _rounded(va * sigmoid(va), FRACTION_BITS)


def gate(va: Ints, vb: Ints) -> Ints:
    """vb * sigmoid(-va), rounded; vb's low 16 bits with 15 fraction bits."""
    return _rounded(low_bits(vb, 16) * sigmoid(-va), BOUND_BITS)


def scan(va: Ints, vb: Ints, h: Ints) -> Ints:
    """h + vb * (va - h), the product rounded; vb's low 22 bits."""
    return h + _rounded((va - h) * low_bits(vb, 22), FRACTION_BITS)


def mul(va: Ints, vb: Ints) -> Ints:
    """va * vb, rounded."""
    return _rounded(va * vb, FRACTION_BITS)


def _rounded(x: Ints, down: int) -> Ints:
    return x + (1 << down - 1) >> down


def _sigmoid_table() -> tuple[Ints, Ints]:
    """sigmoid(-k/32) in 20 fraction bits at k = 0..511, and what each loses to the next knot."""
    knots = np.rint((1 << FRACTION_BITS) / (1 + np.exp(np.arange(513) / 32))).astype(np.int64)
    return knots[:-1], knots[:-1] - knots[1:]


def _reciprocal_table() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """127 * 2^26 / x at the 257 knots of [2^16, 2^17], and what each loses to the next knot."""
    knots = np.rint(127 * 2.0**QUANT_BITS / ((1 << 16) + (np.arange(257) << 8))).astype(np.int64)
    return knots[:-1], knots[:-1] - knots[1:]


SIGMOID_VALUES, SIGMOID_DELTAS = _sigmoid_table()
RECIPROCAL_VALUES, RECIPROCAL_DELTAS = _reciprocal_table()

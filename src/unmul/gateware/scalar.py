"""Small floats: what one number per vector is held in (scales, roots, constants). value = mantissa * 2^exponent.

The mantissa is 0 or a whole number of 16 bits with its top bit set, the exponent a whole number of 10 bits. Every
operation rounds down: mantissas are cut, never carried. Functions take arrays of any one shape, exact in int64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from unmul.errors import GatewareError

__all__ = [
    "MANTISSA_BITS",
    "RSQRT_DELTAS",
    "RSQRT_VALUES",
    "Ints",
    "Scalar",
    "add",
    "bit_length",
    "constant",
    "from_int",
    "multiply",
    "rsqrt",
    "shift",
    "to_float",
]

Ints = npt.NDArray[np.int64]

MANTISSA_BITS = 16
_TOP = 1 << MANTISSA_BITS - 1  # smallest mantissa that is not 0
_EXPONENTS = range(-512, 512)


class Scalar(NamedTuple):
    """A small float, or many of one shape."""

    mantissa: Ints
    exponent: Ints


def bit_length(x: Ints) -> Ints:
    """Bits of x >= 0 up to its highest one: 0 -> 0, 1 -> 1, 255 -> 8. Exact up to 2^62."""
    high, low = x >> 31, x & (1 << 31) - 1  # halves that float64 holds without rounding
    bits: Ints = np.where(high > 0, np.frexp(high.astype(float))[1] + 31, np.frexp(low.astype(float))[1])
    return bits.astype(np.int64)


def shift(x: Ints, left: Ints | int) -> Ints:
    """x * 2^left rounded down."""
    left = np.asarray(left)
    shifted: Ints = (x << np.maximum(left, 0)) >> np.minimum(np.maximum(-left, 0), 63)
    return shifted


def from_int(x: Ints, exponent: Ints | int = 0) -> Scalar:
    """The scalar of x * 2^exponent, x >= 0."""
    up = MANTISSA_BITS - bit_length(x)
    return _clean(shift(x, up), np.asarray(exponent) - up)


def multiply(x: Scalar, y: Scalar) -> Scalar:
    """x * y."""
    product = x.mantissa * y.mantissa
    down = np.where(product >> 2 * MANTISSA_BITS - 1, MANTISSA_BITS, MANTISSA_BITS - 1)
    return _clean(product >> down, x.exponent + y.exponent + down)


def add(x: Scalar, y: Scalar) -> Scalar:
    """x + y, both >= 0: the smaller one is cut at the larger one's last bit."""
    swap = (x.mantissa == 0) | ((y.mantissa != 0) & (y.exponent > x.exponent))
    large, small = (Scalar(*(np.where(swap, *pair) for pair in zip(b, a, strict=True))) for a, b in ((x, y), (y, x)))
    total = large.mantissa + (small.mantissa >> np.minimum(large.exponent - small.exponent, 63).clip(0))
    carry = total >> MANTISSA_BITS
    return _clean(total >> carry, large.exponent + carry)


def rsqrt(x: Scalar) -> Scalar:
    """1 / sqrt(x), x > 0: 512 table values with their differences, linear in between; within 2^-15 of it."""
    odd = x.exponent & 1
    entry = odd << 8 | x.mantissa >> 7 & 255
    cut = RSQRT_DELTAS[entry] * (x.mantissa & 127) + 64 >> 7
    return Scalar(RSQRT_VALUES[entry] - cut, -(x.exponent - odd) // 2 - 23 - odd)


def constant(value: float) -> Scalar:
    """The scalar nearest to a number >= 0.

    Raises:
        GatewareError: the number is negative, not finite, or its exponent has no room.
    """
    if not 0 <= value < np.inf:
        raise GatewareError(f"constant {value!r} is no scalar", "the checkpoint's numbers must be finite and positive")
    fraction, power = np.frexp(value)
    mantissa = int(np.rint(fraction * (1 << MANTISSA_BITS)))
    carry = mantissa >> MANTISSA_BITS
    exponent = int(power) - MANTISSA_BITS + carry if mantissa else 0
    if exponent not in _EXPONENTS:
        raise GatewareError(f"constant {value!r} is out of range", "the checkpoint's scales must lie within 2^±490")
    return Scalar(np.int64(mantissa >> carry), np.int64(exponent))  # type: ignore[arg-type]


def to_float(x: Scalar) -> npt.NDArray[np.float64]:
    """The value as float64, exactly."""
    value: npt.NDArray[np.float64] = np.ldexp(np.asarray(x.mantissa, float), x.exponent)
    return value


def _clean(mantissa: Ints, exponent: Ints) -> Scalar:
    """Zero has one form."""
    return Scalar(mantissa, np.where(mantissa == 0, 0, exponent))


def _rsqrt_table() -> tuple[Ints, Ints]:
    """Values at the 257 knots of [2^15, 2^16] times 2^23, then of [2^16, 2^17] times 2^24, and their differences.

    An odd exponent doubles the mantissa, hence the second half. Its first knot would be 2^16 and is cut to 16 bits.
    """
    knots = _TOP + (np.arange(257) << 7)
    halves = [np.rint(2.0**23 / np.sqrt(knots)), np.rint(2.0**24 / np.sqrt(2.0 * knots))]
    values = [half.astype(np.int64).clip(max=2 * _TOP - 1) for half in halves]
    return np.concatenate([half[:-1] for half in values]), np.concatenate([half[:-1] - half[1:] for half in values])


RSQRT_VALUES, RSQRT_DELTAS = _rsqrt_table()

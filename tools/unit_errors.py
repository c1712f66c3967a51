"""Worst errors of the accelerator's approximations over their whole input range, as the table of docs/hardware.md.

    python tools/unit_errors.py

Every input is tried: all of [-16, 16] in steps of the format for sigmoid and SiLU (beyond it they are 0, 1 or the
input), all mantissas for the reciprocal and the root.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from unmul.gateware import scalar, units

ONE = 1 << units.FRACTION_BITS
CHUNK = 1 << 22


def rows() -> Iterator[str]:
    """Lines of the table: unit, inputs, worst error."""
    yield "| unit | inputs | worst error |"
    yield "|---|---|---|"
    yield f"| sigmoid | all 33,554,433 of [-16, 16] | {_worst(units.sigmoid, _sigmoid):.2e} |"
    yield f"| SiLU | the same | {_worst(units.silu, lambda x: x * _sigmoid(x)):.2e} |"
    yield f"| reciprocal | all 65,536 | {reciprocal():.2e} of the result |"
    yield f"| rsqrt | all 2 x 32,768 mantissas | {rsqrt():.2e} of the result |"


def reciprocal() -> float:
    """Worst relative error."""
    x = np.arange(1 << 16, 1 << 17)
    return float(np.abs(units.reciprocal(x) * x / (127 * 2.0**units.QUANT_BITS) - 1).max())


def rsqrt() -> float:
    """Worst relative error, for even and odd exponents."""
    mantissas = np.arange(1 << 15, 1 << 16)
    inputs = [scalar.Scalar(mantissas, np.full_like(mantissas, exponent)) for exponent in (0, 1)]
    return max(float(np.abs(scalar.to_float(scalar.rsqrt(x)) * np.sqrt(scalar.to_float(x)) - 1).max()) for x in inputs)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(x / 2)) / 2


def _worst(unit: Callable[[np.ndarray], np.ndarray], exact: Callable[[np.ndarray], np.ndarray]) -> float:
    """Worst absolute error over [-16, 16]."""
    worst = 0.0
    for start in range(-16 * ONE, 16 * ONE + 1, CHUNK):
        x = np.arange(start, min(start + CHUNK, 16 * ONE + 1))
        worst = max(worst, float(np.abs(unit(x) / ONE - exact(x / ONE)).max()))
    return worst


if __name__ == "__main__":
    print("\n".join(rows()))

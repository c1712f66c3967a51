"""Every tolerance of the test suite, with its reason. Integers need none: they compare with ==."""

__all__ = [
    "BF16_LOGITS",
    "ENGINE_LOGITS",
    "EXPONENTIAL",
    "FLOAT32_SUMS",
    "GOLDEN",
    "ROUNDING_MARGIN",
    "relative_l2",
]

from typing import Any

import numpy as np

GOLDEN = 1e-5  # against the published implementation on a GPU in float32: order of summation only
FLOAT32_SUMS = 2e-6  # the same float32 arithmetic in another order of summation
BF16_LOGITS = 0.1  # bfloat16 keeps 8 bits and moves 8-bit codes across their boundaries
ENGINE_LOGITS = 1e-4  # native against NumPy where no int8 code moves: order of summation and exp
EXPONENTIAL = 2e-7  # relative error of the native exp: a little over one unit of the last place
ROUNDING_MARGIN = 5e-5  # of activations up to 127 in float32: so near to a half, either int8 code is right


def relative_l2(found: Any, expected: Any) -> float:
    """|found - expected| / |expected| in the Euclidean norm; NaN where either holds one."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert a.shape == b.shape
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))

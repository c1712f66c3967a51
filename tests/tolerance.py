"""Every tolerance of the test suite, with its reason. Integers need none: they compare with ==."""

__all__ = [
    "BF16_LOGITS",
    "BF16_PRODUCTS",
    "BF16_ROUNDING",
    "BF16_STEPS",
    "CODE_FLIPS",
    "ENGINE_LOGITS",
    "EXPONENTIAL",
    "FLOAT32_SUMS",
    "GATE_STEPS",
    "GOLDEN",
    "GOLDEN_LOSSES",
    "INT8_GRADIENTS",
    "NEAR_TIE",
    "NORM_STEPS",
    "RECIPROCAL",
    "SCALAR_CUT",
    "SCALAR_RSQRT",
    "SCALE_OF_CODES",
    "SIGMOID",
    "SPLIT_BATCHES",
    "TWIN_LOGITS",
    "relative_l2",
]

from typing import Any

import numpy as np

GOLDEN = 1e-5  # against the published implementation on a GPU in float32: order of summation only
BF16_STEPS = 2e-2  # several bf16 roundings in a row, and 8-bit codes that they move
CODE_FLIPS = 2e-3  # a few 8-bit codes of an operand moved by one, where the last bit of a norm decides
FLOAT32_SUMS = 2e-6  # the same float32 arithmetic in another order of summation
BF16_PRODUCTS = 2e-2  # exact operands, but the result and the gradients are rounded to 8 bits
INT8_GRADIENTS = 3e-2  # rounded to at best 127 steps of the largest of a row or a column
GOLDEN_LOSSES = 1e-6  # relative, float32: order of summation only
SPLIT_BATCHES = 1e-5  # a batch on two processes: gradients summed in another order, and a few steps that build on it
BF16_LOGITS = 0.2  # bfloat16 keeps 8 bits: the published code's own distance between bf16 and float32 is 0.138
NEAR_TIE = 2e-4  # of n*s, up to 127 = 2^7 in float32: some tens of its last bits from a half
ENGINE_LOGITS = 1e-4  # native against NumPy where no int8 code moves: order of summation and exp
EXPONENTIAL = 2e-7  # relative error of the native exp: a little over one unit of the last place
BF16_ROUNDING = 8e-3  # one rounding to 8 bits, 2^-9; Triton's interpreter cuts instead, up to 2^-7
SCALAR_CUT = 2**-15  # one mantissa of the accelerator cut to 16 bits
SCALAR_RSQRT = 2**-15  # table of 512, linear in between
RECIPROCAL = 1.5e-5  # relative: table of 256, its values rounded to 17 bits
SIGMOID = 1.3e-5  # absolute: knots 1/32 apart, linear in between
GATE_STEPS = 0.5  # of the last place: one rounding
NORM_STEPS = 6e-5  # relative to the largest element: a mantissa cut twice, rsqrt's table, operands of 18 bits
SCALE_OF_CODES = 1.5e-4  # relative: rsqrt's table and four mantissas cut to 16 bits
TWIN_LOGITS = (
    6e-2  # int8 codes that move: gains changed by 1e-6 move the definition's own logits by 2.5e-2 in this model
)


def relative_l2(found: Any, expected: Any) -> float:
    """|found - expected| / |expected| in the Euclidean norm; NaN where either holds one."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert a.shape == b.shape
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30))

"""THE definition of ternary weights and 8-bit activations, and of their packing at five trits a byte.

Nothing else in the package defines these. The arithmetic functions take NumPy arrays and PyTorch tensors alike
(they only use operators and methods that both have), so training and packing cannot drift apart.
Source: arXiv 2406.02528, section 3.1 and appendix A, with the constants that the published code runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["TRITS_PER_BYTE", "codes", "final_scale", "pack", "packed_width", "quantise", "scale", "unpack"]

# N rows (out features), K columns (in features)

TRITS_PER_BYTE = 5  # 3^5 = 243 <= 256: 1.6 bits a weight, 1 % above the entropy of equiprobable trits
SMALLEST = 1e-5  # scales are taken of at least this, so that zeros do not divide by zero
_POWERS = 3 ** np.arange(TRITS_PER_BYTE)
_TRITS = (np.arange(256)[:, None] // _POWERS % 3 - 1).astype(np.int8)  # byte -> five codes


def scale(weight: Any) -> Any:
    """One scale per weight tensor, m = max(mean|W|, 1e-5), float32.

    The mean is summed in float64 and rounded once, so that every backend gets the same float32 whatever its
    order of summation; a 16-bit mean would move codes near |W| = m/2.
    """
    if isinstance(weight, np.ndarray):
        mean = np.abs(weight).mean(dtype=np.float64)
        return np.maximum(np.float32(mean), np.float32(SMALLEST))
    return weight.abs().double().mean().float().clip(SMALLEST)


def final_scale(weight: npt.NDArray[np.float32]) -> np.float32:
    """The scale of a tensor that already holds m*C: max|W|, for its mean is m times the share of non-zeros."""
    return np.maximum(np.abs(weight).max(), np.float32(SMALLEST))


def codes(weight: Any, weight_scale: Any) -> Any:
    """Ternary codes C = clamp(rint(W / m), -1, 1) in the dtype of W / m; halves round to even."""
    return (weight / weight_scale).round().clip(-1, 1)


def quantise(activation: Any) -> tuple[Any, Any]:
    """8-bit activations q and their scale s = 127 * (1 / max(max|n|, 1e-5)), one per token (last dimension).

    Shapes: [..., K] -> q [..., K] holding whole numbers -128..127 in float32, s [..., 1].
    """
    magnitude = abs(activation)
    largest = magnitude.max(-1, keepdims=True) if isinstance(magnitude, np.ndarray) else magnitude.amax(-1, True)
    largest = largest.clip(SMALLEST)
    factor = 127 * (1 / largest)  # two roundings, as PyTorch takes 127 / tensor: one of them moves codes at ties
    return (activation * factor).round().clip(-128, 127), factor


def packed_width(columns: int) -> int:
    """Bytes that a row of K codes takes when packed."""
    return -(-columns // TRITS_PER_BYTE)


def pack(code: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Codes [N, K] -> bytes [N, ceil(K/5)]; byte = sum (c_j + 1) 3^j, a short last byte is filled with zero codes."""
    rows, columns = code.shape
    padded = np.zeros((rows, packed_width(columns) * TRITS_PER_BYTE), np.int8)
    padded[:, :columns] = code
    digits = (padded + 1).astype(np.uint8).reshape(rows, -1, TRITS_PER_BYTE)
    return digits @ _POWERS.astype(np.uint8)


def unpack(packed: npt.NDArray[np.uint8], columns: int) -> npt.NDArray[np.int8]:
    """Bytes [N, ceil(K/5)] -> codes [N, K] in {-1, 0, 1}; the inverse of pack."""
    return _TRITS[packed].reshape(packed.shape[0], -1)[:, :columns]

"""RMSNorm, 8-bit quantisation and the ternary product: for latent weights (training) and for fixed codes."""

from unmul.ops.bitlinear.naive import bitlinear, ternary_linear

__all__ = ["bitlinear", "ternary_linear"]

"""A projection: RMSNorm on its input, 8-bit activations, ternary weights, no bias (arXiv 2406.02528, section 3.1)."""

from __future__ import annotations

import torch
from torch import nn

from unmul.ops.bitlinear import EPS, Projection, project

__all__ = ["EPS", "BitLinear", "Gain", "TernaryLinear"]


class Gain(nn.Module):
    """The learned gain of an RMSNorm; its own module only because the published tensor is called norm.weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))


class BitLinear(nn.Module):
    """Latent weights, ternarised when used; gradients pass straight through.

    Shapes: x [..., K] -> [..., N]; weight [N, K].
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.norm = Gain(in_features)
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.int8_backward = False

    @property
    def projection(self) -> Projection:
        """The tensors, for the operations that fuse a projection with what stands before it."""
        return Projection(self.norm.weight, self.weight, int8_backward=self.int8_backward)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return project(x, self.projection)


class TernaryLinear(nn.Module):
    """Fixed codes and scale, as a packed checkpoint stores them; never ternarised again.

    Shapes: x [..., K] -> [..., N]; codes [N, K] int8, scale [].
    """

    codes: torch.Tensor
    scale: torch.Tensor

    def __init__(self, gain: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor) -> None:
        super().__init__()
        self.norm = Gain(gain.shape[0])
        self.norm.weight = nn.Parameter(gain, requires_grad=False)
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)

    @property
    def projection(self) -> Projection:
        """The tensors, for the operations that fuse a projection with what stands before it."""
        return Projection(self.norm.weight, self.codes, self.scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return project(x, self.projection)

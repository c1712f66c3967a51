"""The exit of the channel mixer, as its formula: the definition that faster versions are compared with."""

# I hidden width

from __future__ import annotations

import torch
import torch.nn.functional as F

from unmul.ops.bitlinear import Projection, project

__all__ = ["swiglu_project"]


def swiglu_project(u: torch.Tensor, projection: Projection) -> torch.Tensor:
    """y = down_proj(SiLU(gate) * up), where u holds gate first, then up (arXiv 2406.02528, section 3.3.2).

    Shapes: u [..., 2 I] -> y [..., N] in u's dtype.
    """
    gate, up = u.chunk(2, -1)
    return project(F.silu(gate) * up, projection)

"""The gates and the recurrence of the token mixer, as their formulas: what faster versions are compared with."""

# B batch, T time, D width

from __future__ import annotations

import torch
import torch.nn.functional as F

from unmul.ops.scan import scan

__all__ = ["PADDING", "START", "gated_scan"]

PADDING, START = 0, 2  # values of the mask; 1 is any other token


def gated_scan(
    f_BTD: torch.Tensor,
    i_BTD: torch.Tensor,
    state_BD: torch.Tensor,
    bound_D: torch.Tensor | None,
    mask_BT: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """h_t = f_t h_{t-1} + SiLU(i_t) (1 - f_t) with f = bound + (1 - bound) sigmoid(f_t) (arXiv 2406.02528, eq. 7 to 9).

    A masked token (0) adds nothing and forgets nothing; the first token of a document (2) forgets everything.

    Shapes: f, i [B, T, D] before their activations, state [B, D], bound [D], mask [B, T] -> every h [B, T, D] and the
    last one [B, D] in float32.
    """
    f_BTD = torch.sigmoid(f_BTD.float())
    if bound_D is not None:
        f_BTD = bound_D + (1 - bound_D) * f_BTD
    i_BTD = F.silu(i_BTD.float()) * (1 - f_BTD)
    if mask_BT is not None:
        mask_BT1 = mask_BT[..., None]
        i_BTD = i_BTD * (mask_BT1 != PADDING)
        f_BTD = f_BTD.where(mask_BT1 != PADDING, 1.0).where(mask_BT1 != START, 0.0)
    return scan(f_BTD, i_BTD, state_BD)

"""The recurrence as its formula, differentiated by autograd: the definition that faster versions are compared with."""

# B batch, T time, D width

from __future__ import annotations

import torch

__all__ = ["scan"]


def scan(f_BTD: torch.Tensor, i_BTD: torch.Tensor, h_BD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """h_t = f_t h_{t-1} + i_t in float32, from the initial state h_BD (arXiv 2406.02528, eq. 9).

    Shapes: f, i [B, T, D], h [B, D] -> every state [B, T, D] and the last one [B, D].
    """
    states = []
    for f_BD, i_BD in zip(f_BTD.float().unbind(1), i_BTD.float().unbind(1), strict=True):
        h_BD = f_BD * h_BD + i_BD
        states.append(h_BD)
    return torch.stack(states, 1), h_BD

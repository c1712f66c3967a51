"""Documents packed into one window, for models that keep them apart by number or position instead of a mask."""

# B windows, T time

from __future__ import annotations

import torch
from torch import Tensor

from unmul.ops.gated_scan import START

__all__ = ["document_numbers", "positions"]


def document_numbers(mask_BT: Tensor) -> Tensor:
    """Which document of its window each token belongs to [B, T] int64; a document cut by the window's begin is 0.

    Attention stays within documents where the numbers of query and key are equal.
    """
    return (mask_BT == START).cumsum(1)


def positions(mask_BT: Tensor) -> Tensor:
    """Place of each token in its document, or in the window for a document cut by its begin [B, T] int64."""
    time_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    begin_BT = torch.where(mask_BT == START, time_T, 0).cummax(1).values
    return time_T - begin_BT

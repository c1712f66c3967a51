"""torch.optim.Muon with matrices of one shape in one batch: a model of 15 layers launches some 300 kernels, not 2,700.

Same contract and state as the optimizer that it extends; compared in tests/train/test_muon.py.
"""

# G matrices of one shape, R rows, C columns

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Muon"]

TOGETHER = 16  # matrices in a batch: bounds what the iteration holds beside the weights


class Muon(torch.optim.Muon):
    """Momentum made orthogonal, in steps as large as AdamW's (arXiv 2502.16982); arguments as in torch.optim.Muon."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every matrix that has a gradient; what closure returns, which is called first."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            for parameters in _of_one_shape(group["params"]):
                buffers = [self._momentum(parameter) for parameter in parameters]
                _update(parameters, buffers, group)
        return loss

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        return buffer


def _of_one_shape(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    shapes = defaultdict(list)
    for parameter in parameters:
        if parameter.grad is not None:
            shapes[parameter.shape].append(parameter)
    for same in shapes.values():
        yield from (same[start : start + TOGETHER] for start in range(0, len(same), TOGETHER))


def _update(parameters: list[Tensor], buffers: list[Tensor], group: dict[str, Any]) -> None:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
    ahead = torch._foreach_lerp(gradients, buffers, group["momentum"]) if group["nesterov"] else buffers
    update_GRC = _orthogonal(torch.stack(list(ahead)), group)
    longest = max(parameters[0].shape)
    rate = group["lr"] * 0.2 * longest**0.5  # as large as an update of AdamW (match_rms_adamw)
    torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
    torch._foreach_add_(parameters, list(update_GRC.to(parameters[0].dtype).unbind()), alpha=-rate)


def _orthogonal(matrices_GRC: Tensor, group: dict[str, Any]) -> Tensor:
    """Newton and Schulz' iteration in bf16, on the shorter side."""
    a, b, c = group["ns_coefficients"]
    tall = matrices_GRC.shape[1] > matrices_GRC.shape[2]
    x = (matrices_GRC.mT if tall else matrices_GRC).bfloat16()
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=group["eps"])
    for _ in range(group["ns_steps"]):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x

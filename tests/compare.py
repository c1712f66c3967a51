"""A kernel against its naive twin: the same inputs and gradient go in, every output and gradient is compared."""

from collections.abc import Callable, Sequence

import torch
from tolerance import relative_l2

__all__ = ["distances", "random"]


def random(device: str, *shape: int, dtype: torch.dtype = torch.float32, seed: int = 0, scale: float = 1.0):
    """Normal numbers that require a gradient; the same on every device."""
    generator = torch.Generator().manual_seed(seed * 7919 + sum(shape))
    values = scale * torch.randn(shape, generator=generator)
    return values.to(device=device, dtype=dtype).requires_grad_()


def distances(fast: Callable, naive: Callable, inputs: Sequence[torch.Tensor]) -> dict[str, float]:
    """Relative L2 distance of every output and of every input's gradient."""
    found, expected = (_run(function, inputs) for function in (fast, naive))
    assert found.keys() == expected.keys()
    return {name: relative_l2(value, expected[name]) for name, value in found.items()}


def _run(function: Callable, inputs: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    outputs = function(*inputs)
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    weights = [torch.linspace(-1, 1, y.numel(), device=y.device).view(y.shape).cos() for y in outputs]
    loss = sum((y.float() * weight).sum() for y, weight in zip(outputs, weights, strict=True))
    gradients = torch.autograd.grad(loss, inputs)
    named = {f"output {index}": y for index, y in enumerate(outputs)}
    named |= {f"gradient {index}": gradient for index, gradient in enumerate(gradients)}
    return {name: value.detach().float().cpu() for name, value in named.items()}

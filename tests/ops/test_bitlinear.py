"""ops.bitlinear: both forms of the projection against the definition in plain NumPy integers."""

import numpy as np
import pytest
import torch
from tolerance import FLOAT32_SUMS, INT8_GRADIENTS, relative_l2

from unmul import ternary
from unmul.ops.bitlinear import bitlinear, ternary_linear

pytestmark = pytest.mark.usefixtures("poisoned_memory")

EPS = 1e-6
SIZES = [(1, 1, 1), (3, 1, 7), (2, 63, 5), (5, 768, 130), (1, 1000, 33)]
IDS = ["T{}-K{}-N{}".format(*size) for size in SIZES]


def inputs(tokens: int, columns: int, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(columns)
    x = torch.randn(tokens, columns, generator=generator)
    gain = 1 + 0.3 * torch.randn(columns, generator=generator)
    return x, gain, 0.05 * torch.randn(rows, columns, generator=generator)


def normed(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.rms_norm(x, gain.shape, gain, EPS)


@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_integer_product_is_exact(size: tuple[int, int, int]) -> None:
    x, gain, weight = inputs(*size)
    m = ternary.scale(weight)
    code = ternary.codes(weight, m)
    q, s = ternary.quantise(normed(x, gain))
    exact = q.numpy().astype(np.int64) @ code.numpy().astype(np.int64).T
    y = ternary_linear(x, gain, code.to(torch.int8), m, EPS)
    assert torch.equal(y, torch.from_numpy(exact).float() * (m / s))


@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_latent_and_fixed_weights_agree(size: tuple[int, int, int]) -> None:
    x, gain, weight = inputs(*size)
    m = ternary.scale(weight)
    fixed = ternary_linear(x, gain, ternary.codes(weight, m).to(torch.int8), m, EPS)
    assert relative_l2(bitlinear(x, gain, weight, EPS), fixed) < FLOAT32_SUMS


@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_gradients_pass_straight_through(size: tuple[int, int, int]) -> None:
    arguments = [tensor.requires_grad_() for tensor in inputs(*size)]
    x, gain, weight = arguments
    y = bitlinear(x, gain, weight, EPS)
    dy = torch.linspace(-1, 1, y.numel()).view_as(y)
    found = torch.autograd.grad(y, arguments, dy)

    n = normed(x, gain)
    q, s = ternary.quantise(n.detach())
    m = ternary.scale(weight.detach())
    dn = dy @ (m * ternary.codes(weight.detach(), m))
    expected = (*torch.autograd.grad(n, (x, gain), dn), dy.T @ (q / s))
    for ours, formula in zip(found, expected, strict=True):
        assert relative_l2(ours, formula) < FLOAT32_SUMS


@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_gradients_from_8_bits_change_neither_output_nor_much(size: tuple[int, int, int]) -> None:
    arguments = [tensor.requires_grad_() for tensor in inputs(*size)]
    y, rounded = (bitlinear(*arguments, EPS, int8_backward) for int8_backward in (False, True))
    assert torch.equal(y, rounded)
    dy = torch.linspace(-1, 1, y.numel()).view_as(y)
    found, expected = (torch.autograd.grad(output, arguments, dy) for output in (rounded, y))
    for name, one, other in zip(("x", "gain", "weight"), found, expected, strict=True):
        if not (size[1] == 1 and name == "x"):  # the norm of one value passes no gradient: rounding noise against 0
            assert relative_l2(one, other) < INT8_GRADIENTS, name


def test_sixteen_bit_weights_are_scaled_in_float32() -> None:
    x, gain, weight = inputs(3, 64, 9)
    short = weight.bfloat16()
    y = bitlinear(x.bfloat16(), gain, short, EPS)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, bitlinear(x.bfloat16().float(), gain, short.float(), EPS).bfloat16())


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30])
def test_extreme_inputs_stay_finite(value: float) -> None:
    _, gain, weight = inputs(1, 8, 3)
    y = bitlinear(torch.full((1, 8), value), gain, weight, EPS)
    assert y.isfinite().all()
    if value == 0:
        assert (y == 0).all()


def test_leading_dimensions_are_kept() -> None:
    x, gain, weight = inputs(6, 10, 4)
    y = bitlinear(x, gain, weight, EPS)
    assert torch.equal(bitlinear(x.view(2, 3, 10), gain, weight, EPS), y.view(2, 3, 4))

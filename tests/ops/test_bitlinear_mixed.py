"""ops.bitlinear.mixed against the definition: exact forward operands, gradients within bf16's rounding."""

import pytest
import torch
import torch.nn.functional as F
from tolerance import BF16_PRODUCTS, relative_l2

from unmul import ternary
from unmul.ops import bitlinear as chooser
from unmul.ops.bitlinear import mixed, naive

EPS = 1e-6
SIZES = [(1, 1, 1), (3, 63, 5), (40, 257, 100), (64, 128, 384)]


def operands(rows, columns, width):
    random = torch.Generator().manual_seed(rows * columns * width)
    shapes = ((2, rows, columns), (columns,), (width, columns), (2, rows, width))
    x, gain, weight, grad = (torch.randn(shape, generator=random) for shape in shapes)
    return [tensor.requires_grad_() for tensor in (x, 1 + 0.1 * gain, weight)], grad


@pytest.mark.parametrize("int8_backward", [False, True], ids=["bf16", "int8"])
@pytest.mark.parametrize(("rows", "columns", "width"), SIZES, ids=lambda size: str(size))
def test_mixed_output_and_gradients_equal_naive_within_bf16(rows, columns, width, int8_backward):
    inputs, grad = operands(rows, columns, width)
    found, expected = [], []
    for implementation, results in ((mixed, found), (naive, expected)):
        y = implementation.bitlinear(*inputs, EPS, int8_backward)
        results += [y.detach(), *torch.autograd.grad(y, inputs, grad)]
    for name, one, other in zip(("y", "x", "gain", "weight"), found, expected, strict=True):
        if not (columns == 1 and name == "x"):  # the norm of one value passes no gradient: rounding noise against 0
            assert relative_l2(one, other) < BF16_PRODUCTS, name


def test_forward_operands_lose_nothing_in_bf16():
    (x, gain, weight), _ = operands(40, 257, 100)
    q, s = ternary.quantise(F.rms_norm(x.detach(), gain.shape, gain.detach(), EPS))
    m = ternary.scale(weight.detach())
    exact = F.linear(q, ternary.codes(weight.detach(), m))
    found = (mixed.bitlinear(x, gain, weight, EPS).detach() / (m / s)).round()
    assert torch.equal(found.bfloat16(), exact.bfloat16())  # one rounding of an exact integer, nowhere else


def test_autocast_chooses_the_mixed_products_and_float32_the_definition():
    (x, gain, weight), _ = operands(3, 63, 5)
    assert torch.equal(chooser.bitlinear(x, gain, weight, EPS), naive.bitlinear(x, gain, weight, EPS))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(chooser.bitlinear(x, gain, weight, EPS), mixed.bitlinear(x, gain, weight, EPS))

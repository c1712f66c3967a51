"""ops.product_backward: operands of the bf16 products; the 8-bit ones against their formula, to the bit."""

import pytest
import torch
from tolerance import BF16_ROUNDING, INT8_GRADIENTS, relative_l2

from unmul.errors import UsageError
from unmul.ops.product_backward import naive

pytestmark = pytest.mark.usefixtures("poisoned_memory", "fenced_memory")

SIZES = [(1, 1, 1, 1), (3, 63, 100, 65), (1, 200, 129, 300), (2, 144, 96, 70)]
IDS = ["G{}-M{}-K{}-N{}".format(*size) for size in SIZES]


def operands(groups: int, rows: int, columns: int, features: int, device: str, dtype: torch.dtype = torch.float32):
    """Gradients whose rows and columns differ in size by orders of magnitude, and what the forward pass saved."""
    generator = torch.Generator().manual_seed(rows * columns)
    grads = 1e-6 * torch.randn(groups, rows, features, generator=generator)
    grads *= torch.randn(groups, rows, 1, generator=generator).exp() * torch.randn(features, generator=generator).exp()
    q = torch.randint(-127, 128, (groups, rows, columns), generator=generator, dtype=torch.int8)
    c = torch.randint(-1, 2, (groups, features, columns), generator=generator, dtype=torch.int8)
    s = 30 + 20 * torch.rand(groups, rows, generator=generator)
    m = 0.02 + 0.01 * torch.rand(groups, generator=generator)
    return list(grads.to(device, dtype).unbind()), *(tensor.to(device) for tensor in (q, s, c, m))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_codes_and_scales_equal_naive_to_the_bit(size, dtype: torch.dtype, device: str) -> None:
    from unmul.ops.product_backward import triton

    grads, _, s, *_ = operands(*size, device, dtype)
    found, expected = triton.quantise_gradients(grads, s), naive.quantise_gradients(grads, s)
    for name, one, other in zip(("rows", "row scales", "columns", "column scales"), found, expected, strict=True):
        assert one.dtype == other.dtype, name
        assert torch.equal(one, other), name


@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_gradients_equal_naive_to_the_bit(size, device: str) -> None:
    from unmul.ops.product_backward import triton

    arguments = operands(*size, device)
    for found, expected in zip(
        triton.int8_product_backward(*arguments, torch.float32),
        naive.int8_product_backward(*arguments, torch.float32),
        strict=True,
    ):
        assert len(found) == len(expected) == size[0]
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_each_gradient_has_the_dtype_of_what_it_is_for(device: str) -> None:
    from unmul.ops.product_backward import triton

    arguments = operands(1, 40, 33, 20, device, torch.bfloat16)
    (grad_x,), (grad_w,) = triton.int8_product_backward(*arguments, torch.float32)
    (exact_x,), (exact_w,) = naive.int8_product_backward(*arguments, torch.float32)
    assert grad_x.dtype == exact_x.dtype == torch.bfloat16
    assert relative_l2(grad_x.float().cpu(), exact_x.float().cpu()) < BF16_ROUNDING
    assert torch.equal(grad_w, exact_w)


def test_fixed_weights_have_no_gradient(device: str) -> None:
    from unmul.ops.product_backward import triton

    for module in (triton, naive):
        assert module.int8_product_backward(*operands(2, 5, 7, 3, device), None)[1] == [None, None]


@pytest.mark.parametrize("size", [(1, 1, 1, 1), (1, 63, 100, 65), (3, 200, 64, 300)])
def test_gradients_are_near_those_of_exact_arithmetic(size) -> None:
    grads, q, s, c, m = operands(*size, "cpu")
    found_x, found_w = naive.int8_product_backward(grads, q, s, c, m, torch.float32)
    for group, grad in enumerate(grads):
        exact_x = grad.double() @ (m[group] * c[group].double())
        exact_w = grad.double().T @ (q[group] / s[group][:, None].double())
        assert relative_l2(found_x[group], exact_x) < INT8_GRADIENTS
        assert relative_l2(found_w[group], exact_w) < INT8_GRADIENTS


@pytest.mark.parametrize("size", [(1, 3, 5), (2, 130, 129), (1, 257, 64)])
def test_codes_are_turned(size, device: str) -> None:
    from unmul.ops.product_backward import triton

    codes = torch.randint(-128, 128, size, generator=torch.Generator().manual_seed(1), dtype=torch.int8).to(device)
    assert torch.equal(triton.transpose(codes), codes.mT)


@pytest.mark.parametrize("value", [0.0, 1e-38, 1e-33, 1e30])
def test_extreme_gradients_stay_finite_and_equal(value: float, device: str) -> None:
    from unmul.ops.product_backward import triton

    _, q, s, c, m = operands(1, 5, 8, 6, device)
    grads = [torch.full((5, 6), value, device=device)]
    found, expected = (module.int8_product_backward(grads, q, s, c, m, torch.float32) for module in (triton, naive))
    for (one,), (other,) in zip(found, expected, strict=True):
        assert one.isfinite().all()
        assert torch.equal(one, other)


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")  # NumPy's, in the interpreter
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_reaches_both_gradients(value: float, device: str) -> None:
    from unmul.ops.product_backward import triton

    grads, *operand = operands(1, 5, 8, 6, device)
    grads[0][2, 3] = value
    for module in (triton, naive):
        (grad_x,), (grad_w,) = module.int8_product_backward(grads, *operand, torch.float32)
        assert not grad_x[2].isfinite().any()
        assert not grad_w[3].isfinite().any()
        assert grad_x[:2].isfinite().all()
        assert grad_w[:3].isfinite().all()


def test_more_rows_than_sums_of_32_bits_hold_are_refused() -> None:
    pytest.importorskip("triton")
    from unmul.ops.product_backward import triton

    rows = triton.MOST_ROWS + 1
    grads, s = [torch.empty(1, 1).expand(rows, 1)], torch.empty(1, 1).expand(1, rows)
    with pytest.raises(UsageError, match=r"133145 tokens .*at most 133144 at once: a smaller train\.batch"):
        triton.int8_product_backward(grads, s, s, s, s, torch.float32)


@pytest.mark.parametrize("inverse", [False, True], ids=["times", "over"])
def test_dequantised_operands_are_rounded_once(inverse: bool, device: str) -> None:
    from unmul.ops.product_backward import triton

    _, q, s, _, m = operands(3, 63, 2100, 1, device)
    scale = s if inverse else m
    exact = q / s[..., None] if inverse else q * m[:, None, None]
    assert relative_l2(triton.dequantise(q, scale, inverse, torch.float32).cpu(), exact.cpu()) < 1e-7
    assert relative_l2(triton.dequantise(q, scale, inverse, torch.bfloat16).float().cpu(), exact.cpu()) < BF16_ROUNDING

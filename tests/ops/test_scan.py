"""ops.scan: the fast recurrence against its formula, outputs and gradients."""

import pytest
import torch
from tolerance import FLOAT32_SUMS, relative_l2

from unmul.ops import scan as package
from unmul.ops.scan import naive, sequential

pytestmark = pytest.mark.usefixtures("poisoned_memory")

SIZES = [(1, 1, 1), (2, 1, 5), (1, 63, 7), (3, 17, 1), (2, 130, 100), (5, 2, 33)]
IDS = ["B{}-T{}-D{}".format(*size) for size in SIZES]


def inputs(batch: int, time: int, width: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(batch * 1000 + time)
    f = torch.rand(batch, time, width, generator=generator, dtype=dtype)
    i = torch.randn(batch, time, width, generator=generator, dtype=dtype)
    h = torch.randn(batch, width, generator=generator, dtype=dtype)
    return [tensor.requires_grad_() for tensor in (f, i, h)]


@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_states_are_those_of_the_formula(size: tuple[int, int, int]) -> None:
    f, i, h = inputs(*size)
    for found, expected in zip(package.scan(f, i, h), naive.scan(f, i, h), strict=True):
        assert found.shape == expected.shape
        assert relative_l2(found.detach(), expected.detach()) < FLOAT32_SUMS


@pytest.mark.parametrize("through", ["states", "last", "both"])
@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_gradients_are_those_of_the_formula(size: tuple[int, int, int], through: str) -> None:
    found, expected = (gradients(module.scan, size, through) for module in (sequential, naive))
    for ours, theirs in zip(found, expected, strict=True):
        assert relative_l2(ours, theirs) < FLOAT32_SUMS


def gradients(scan, size: tuple[int, int, int], through: str) -> tuple[torch.Tensor, ...]:
    arguments = inputs(*size)
    states, last = scan(*arguments)
    weights = torch.linspace(-1, 1, states.numel()).view_as(states)
    loss = torch.zeros(())
    if through != "last":
        loss = loss + (states * weights).sum()
    if through != "states":
        loss = loss + last.square().sum()
    return torch.autograd.grad(loss, arguments)


def test_known_values() -> None:
    f, i = torch.tensor([[[0.5], [0.5], [0.0]]]), torch.tensor([[[1.0], [2.0], [3.0]]])
    states, last = package.scan(f, i, torch.tensor([[4.0]]))
    assert states.tolist() == [[[3.0], [3.5], [3.0]]]
    assert last.tolist() == [[3.0]]


def test_state_carries_over_to_the_bit() -> None:
    f, i, h = inputs(2, 11, 6)
    whole, last = package.scan(f, i, h)
    first, middle = package.scan(f[:, :4], i[:, :4], h)
    second, end = package.scan(f[:, 4:], i[:, 4:], middle)
    assert torch.equal(torch.cat([first, second], 1), whole)
    assert torch.equal(end, last)


def test_views_with_any_strides_are_accepted() -> None:
    f, i, h = inputs(3, 8, 10)
    strided = [tensor.transpose(0, -1).contiguous().transpose(0, -1)[..., ::2] for tensor in (f, i, h)]
    assert not strided[0].is_contiguous()
    dense = [tensor.contiguous() for tensor in strided]
    assert torch.equal(package.scan(*strided)[0], package.scan(*dense)[0])
    found = torch.autograd.grad(package.scan(*strided)[0].sum(), strided)
    expected = torch.autograd.grad(naive.scan(*dense)[0].sum(), dense)
    for ours, theirs in zip(found, expected, strict=True):
        assert relative_l2(ours, theirs) < FLOAT32_SUMS


def test_sixteen_bit_inputs_run_in_float32() -> None:
    f, i, h = (tensor.detach().bfloat16() for tensor in inputs(2, 9, 4))
    for scan in (package.scan, naive.scan):
        states, last = scan(f, i, h)
        assert states.dtype == last.dtype == torch.float32
        assert torch.equal(states[:, 0], (f[:, 0].float() * h.float() + i[:, 0].float()))

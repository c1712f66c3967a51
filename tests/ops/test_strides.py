"""Gains and lower bounds may be columns of a table: the kernels read the same numbers and give gradients back."""

import pytest
import torch

from unmul.ops.bitlinear import Projection

pytestmark = pytest.mark.usefixtures("poisoned_memory", "fenced_memory")

B, T, K, N = 2, 3, 33, 7


def norm_project(vectors, data):
    from unmul.ops.norm_project.triton import norm_project

    summed, (y,) = norm_project(data["x"], None, vectors[0], [Projection(vectors[1], data["weight"])], 1e-6)
    return summed.sum() + y.sum()


def gate_project(vectors, data):
    from unmul.ops.gate_project.triton import gate_project

    return gate_project(data["x"], data["x"] + 1, vectors[0], Projection(vectors[1], data["weight"]), 1e-6).sum()


def swiglu_project(vectors, data):
    from unmul.ops.swiglu_project.triton import swiglu_project

    both = torch.cat([data["x"], data["x"] + 1], -1)
    return swiglu_project(both, Projection(vectors[0], data["weight"])).sum() + vectors[1].sum()


def head_loss(vectors, data):
    from unmul.ops.head_loss.triton import head_loss

    targets = torch.arange(B * T, device=data["x"].device).view(B, T)
    return head_loss(data["x"], None, vectors[0], Projection(vectors[1], data["weight"]), targets, 1e-6)


def gated_scan(vectors, data):
    from unmul.ops.gated_scan.triton import gated_scan

    h, last = gated_scan(data["x"], data["x"] + 1, torch.zeros_like(data["x"][:, 0]), vectors[0], None)
    bound = vectors[1]
    return h.sum() + last.sum() + gated_scan(data["x"], data["x"], last, bound, None)[0].sum()


@pytest.mark.parametrize(
    "operation", [norm_project, gate_project, swiglu_project, head_loss, gated_scan], ids=lambda each: each.__name__
)
def test_vectors_with_a_stride_give_what_dense_ones_give(operation, device: str) -> None:
    torch.manual_seed(0)
    data = {"x": torch.randn(B, T, K, device=device), "weight": torch.randn(N, K, device=device)}
    table = torch.rand(K, 2, device=device)
    strided = [column.detach().requires_grad_() for column in table.unbind(1)]
    dense = [column.detach().contiguous().requires_grad_() for column in table.unbind(1)]
    assert not strided[0].is_contiguous()
    found, expected = operation(strided, data), operation(dense, data)
    assert torch.equal(found, expected)
    for mine, theirs in zip(torch.autograd.grad(found, strided), torch.autograd.grad(expected, dense), strict=True):
        assert torch.equal(mine, theirs)

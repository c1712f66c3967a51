"""ops.ternarise: codes and scales to the bit, and held while weights stay as they are."""

import pytest
import torch

from unmul.ops.ternarise import naive

pytestmark = pytest.mark.usefixtures("poisoned_memory", "fenced_memory")

SIZES = [(1, 1, 1), (3, 63, 77), (2, 500, 41), (1, 33, 1000)]
IDS = ["G{}-N{}-K{}".format(*size) for size in SIZES]


def weights(groups: int, rows: int, columns: int, device: str, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return [0.03 * torch.randn(rows, columns, generator=generator).to(device, dtype) for _ in range(groups)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_codes_and_scales_equal_the_definition_to_the_bit(size, dtype: torch.dtype, device: str) -> None:
    from unmul.ops.ternarise import triton

    latent = weights(*size, device, dtype)
    for found, expected in zip(triton.ternarise(latent), naive.ternarise(latent), strict=True):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)


@pytest.mark.parametrize("value", [0.0, 1e-7, 3e38])
def test_extreme_weights(value: float, device: str) -> None:
    from unmul.ops.ternarise import triton

    latent = [torch.full((3, 5), value, device=device)]
    for found, expected in zip(triton.ternarise(latent), naive.ternarise(latent), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_list_of_tensors_on_the_gpu_reaches_the_kernel(monkeypatch) -> None:
    """Both implementations give the same bits: only this shows which one ran."""
    from unmul.ops import ternarise as package

    monkeypatch.setattr(naive.ternary, "codes", None)
    package.ternarise(weights(2, 8, 16, "cuda", torch.float32))


def test_codes_are_held_only_inside_the_promise() -> None:
    from unmul.ops.bitlinear import Projection
    from unmul.ops.ternarise.held import hold_codes, ternary_operand

    projection = Projection(torch.ones(4), torch.randn(3, 4))
    with hold_codes():
        first = ternary_operand([projection])
        assert ternary_operand([projection])[0] is first[0]
    projection.weight.neg_()
    assert torch.equal(ternary_operand([projection])[0], -first[0])


def test_fixed_codes_are_taken_as_they_are() -> None:
    from unmul.ops.bitlinear import Projection
    from unmul.ops.ternarise.held import ternary_operand

    codes = torch.tensor([[1, 0, -1]], dtype=torch.int8)
    projection = Projection(torch.ones(3), codes, torch.tensor(0.25))
    stacked, scales = ternary_operand([projection, projection])
    assert torch.equal(stacked, codes.expand(2, 1, 3))
    assert scales.tolist() == [0.25, 0.25]

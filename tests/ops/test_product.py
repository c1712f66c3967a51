"""ops.product: the integer product and its scales to the bit, through both ways of loading tiles."""

import pytest
import torch
from tolerance import BF16_ROUNDING, relative_l2

from unmul.ops.product import naive

pytestmark = pytest.mark.usefixtures("poisoned_memory", "fenced_memory")

SIZES = [(1, 1, 1, 1), (3, 63, 100, 65), (1, 200, 129, 300), (2, 130, 1000, 17)]
IDS = ["G{}-M{}-K{}-N{}".format(*size) for size in SIZES]


def operands(groups: int, rows: int, columns: int, features: int, device: str) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(columns)
    q = torch.randint(-127, 128, (groups, rows, columns), generator=generator, dtype=torch.int8)
    c = torch.randint(-1, 2, (groups, features, columns), generator=generator, dtype=torch.int8)
    s = 1 + torch.rand(groups, rows, generator=generator)
    return tuple(tensor.to(device) for tensor in (q, s, c, 0.1 + torch.rand(groups, generator=generator)))


def same(y: torch.Tensor, q: torch.Tensor, s: torch.Tensor, c: torch.Tensor, m: torch.Tensor) -> bool:
    """To the bit; but Triton's interpreter cuts to bf16 where a GPU rounds."""
    exact = naive.product(q.cpu(), s.cpu(), c.cpu(), m.cpu(), y.dtype)
    if y.dtype == torch.float32 or y.is_cuda:
        return torch.equal(y.cpu(), exact)
    return relative_l2(y.float(), exact.float()) < BF16_ROUNDING


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_product_equals_naive_to_the_bit(size, dtype: torch.dtype, device: str) -> None:
    from unmul.ops.product import triton

    arguments = operands(*size, device)
    assert same(triton.product(*arguments, dtype), *arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("size", [(1, 200, 64, 144), (3, 128, 272, 80)], ids=["G1-M200-K64-N144", "G3-M128-K272-N80"])
def test_tiles_through_descriptors_give_the_same(size, dtype: torch.dtype, device: str) -> None:
    from unmul.ops.product import triton

    if device == "cuda" and torch.cuda.get_device_capability()[0] != 9:
        pytest.skip("needs a Hopper GPU")
    arguments = operands(*size, device)
    y = torch.empty(size[0], size[1], size[3], dtype=dtype, device=device)
    triton._launch_tma(*arguments, y)
    assert same(y, *arguments)

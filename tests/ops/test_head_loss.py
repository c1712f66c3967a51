"""ops.head_loss: the loss of a head whose logits are never stored, against cross-entropy of the whole."""

import pytest
import torch
from compare import distances, random
from tolerance import BF16_STEPS, CODE_FLIPS

from unmul.ops.bitlinear import Projection
from unmul.ops.head_loss import IGNORED, naive

pytestmark = pytest.mark.usefixtures("poisoned_memory", "fenced_memory")

SIZES = [(1, 5, 3), (63, 100, 131), (20, 300, 500)]
IDS = ["M{}-K{}-V{}".format(*size) for size in SIZES]


def inputs(rows: int, width: int, vocabulary: int, device: str, dtype: torch.dtype = torch.float32) -> list:
    x, delta = (random(device, rows, width, dtype=dtype, seed=seed) for seed in (1, 2))
    gains = [(1 + random(device, width, seed=seed, scale=0.2)).detach().requires_grad_() for seed in (3, 4)]
    return [x, delta, *gains, random(device, vocabulary, width, seed=9, scale=0.1)]


def targets(rows: int, vocabulary: int, device: str) -> torch.Tensor:
    chosen = torch.arange(rows) * 17 % vocabulary
    chosen[1::4] = IGNORED
    return chosen.to(device)


def call(module, wanted: torch.Tensor, int8_backward: bool = False):
    def function(x, delta, outer, inner, weight):
        projection = Projection(inner, weight, int8_backward=int8_backward)
        return module.head_loss(x, delta, outer, projection, wanted, 1e-6)

    return function


@pytest.mark.parametrize("chunk", [7, 4096])
@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_loss_and_gradients_are_those_of_the_formula(size, chunk: int, device: str, monkeypatch) -> None:
    from unmul.ops.head_loss import triton

    monkeypatch.setattr(triton, "ROWS", chunk)
    wanted = targets(size[0], size[2], device)
    errors = distances(call(triton, wanted), call(naive, wanted), inputs(*size, device))
    assert {name: error for name, error in errors.items() if not error < CODE_FLIPS} == {}


def test_sixteen_bit_streams_stay_near(device: str) -> None:
    from unmul.ops.head_loss import triton

    wanted = targets(40, 77, device)
    errors = distances(call(triton, wanted), call(naive, wanted), inputs(40, 130, 77, device, torch.bfloat16))
    assert {name: error for name, error in errors.items() if not error < BF16_STEPS} == {}


def test_no_gradient_is_made_when_none_is_wanted(device: str, monkeypatch) -> None:
    from unmul.ops.head_loss import triton

    monkeypatch.setattr(triton, "_accumulate", None)
    arguments = [tensor.detach() for tensor in inputs(9, 20, 30, device)]
    wanted = targets(9, 30, device)
    assert torch.allclose(call(triton, wanted)(*arguments), call(naive, wanted)(*arguments), rtol=1e-4)


def test_targets_may_be_a_column_of_a_table(device: str) -> None:
    from unmul.ops.head_loss import triton

    x, *rest = inputs(9, 20, 30, device)
    table = torch.stack([torch.zeros_like(targets(9, 30, device)), targets(9, 30, device)], 1)
    losses = [call(module, table[:, 1:])(x[:, None], rest[0][:, None], *rest[1:]) for module in (triton, naive)]
    assert torch.allclose(*losses, rtol=1e-4)


def test_the_backward_products_of_the_head_are_never_in_8_bits(device: str) -> None:
    from unmul.ops.head_loss import triton

    wanted = targets(63, 131, device)
    for module in (triton, naive):
        same = distances(call(module, wanted, True), call(module, wanted, False), inputs(63, 100, 131, device))
        assert set(same.values()) == {0.0}

"""ops.gated_scan: gates and recurrence against their formula, with masks, borders of documents, and a state."""

import pytest
import torch
from compare import distances, random
from tolerance import BF16_STEPS, FLOAT32_SUMS

from unmul.ops.gated_scan import PADDING, START, naive

pytestmark = pytest.mark.usefixtures("poisoned_memory", "fenced_memory")

SIZES = [(1, 1, 1), (2, 63, 7), (1, 70, 33), (2, 32, 20), (1, 96, 5)]
IDS = ["B{}-T{}-D{}".format(*size) for size in SIZES]
MASKS = ["no mask", "padding", "documents", "both"]


def inputs(batch: int, time: int, width: int, device: str, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    f, i = (random(device, batch, time, width, dtype=dtype, seed=seed) for seed in (1, 2))
    bound = random(device, width, seed=4).detach().sigmoid().mul(0.9).requires_grad_()
    return [f, i, random(device, batch, width, seed=3), bound]


def mask(kind: str, batch: int, time: int, device: str) -> torch.Tensor | None:
    if kind == "no mask":
        return None
    values = torch.ones(batch, time, dtype=torch.int64)
    if kind in ("padding", "both"):
        values[:, : time // 3] = PADDING
        values[0, -1:] = PADDING
    if kind in ("documents", "both"):
        values[:, :1] = START
        values[-1, time // 2 :: 5] = START
    return values.to(device)


def call(module, mask_BT: torch.Tensor | None):
    return lambda f, i, state, bound: module.gated_scan(f, i, state, bound, mask_BT)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_states_and_gradients_are_those_of_the_formula(size, kind: str, device: str) -> None:
    from unmul.ops.gated_scan import triton

    mask_BT = mask(kind, *size[:2], device)
    errors = distances(call(triton, mask_BT), call(naive, mask_BT), inputs(*size, device))
    assert {name: error for name, error in errors.items() if not error < 5 * FLOAT32_SUMS} == {}


def test_sixteen_bit_gates_keep_a_float32_carry(device: str) -> None:
    from unmul.ops.gated_scan import triton

    errors = distances(call(triton, None), call(naive, None), inputs(1, 100, 9, device, torch.bfloat16))
    assert {name: error for name, error in errors.items() if not error < BF16_STEPS} == {}
    assert errors["output 1"] < 5 * FLOAT32_SUMS


def test_a_state_may_lie_in_memory_by_columns(device: str) -> None:
    from unmul.ops.gated_scan import triton

    def by_columns(module):
        return lambda f, i, state, bound: module.gated_scan(f, i, state.T.contiguous().T, bound, None)

    errors = distances(by_columns(triton), by_columns(naive), inputs(3, 5, 7, device))
    assert {name: error for name, error in errors.items() if not error < 5 * FLOAT32_SUMS} == {}


def test_no_bound_is_a_bound_of_zero(device: str) -> None:
    from unmul.ops.gated_scan import triton

    f, i, state, bound = inputs(2, 40, 5, device)
    none = triton.gated_scan(f, i, state, None, None)
    zero = triton.gated_scan(f, i, state, torch.zeros_like(bound), None)
    assert all(torch.equal(a, b) for a, b in zip(none, zero, strict=True))


def test_a_document_does_not_see_the_one_before(device: str) -> None:
    from unmul.ops.gated_scan import triton

    f, i, state, bound = (tensor.detach() for tensor in inputs(1, 50, 6, device))
    mask_BT = torch.ones(1, 50, dtype=torch.int64, device=device)
    mask_BT[0, 37] = START
    whole, _ = triton.gated_scan(f, i, state, bound, mask_BT)
    alone, _ = triton.gated_scan(f[:, 37:], i[:, 37:], torch.zeros_like(state), bound, None)
    assert torch.allclose(whole[:, 37:], alone, rtol=1e-5, atol=1e-6)


def test_padding_leaves_the_state_alone(device: str) -> None:
    from unmul.ops.gated_scan import triton

    f, i, state, bound = (tensor.detach() for tensor in inputs(2, 41, 6, device))
    mask_BT = torch.ones(2, 41, dtype=torch.bool, device=device)
    mask_BT[:, 30:] = False
    _, last = triton.gated_scan(f, i, state, bound, mask_BT)
    _, expected = triton.gated_scan(f[:, :30], i[:, :30], state, bound, None)
    assert torch.allclose(last, expected, rtol=1e-5, atol=1e-6)  # equal but for where segments of time begin

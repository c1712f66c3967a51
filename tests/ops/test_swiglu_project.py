"""ops.swiglu_project: the fused exit of the channel mixer against its formula, outputs and gradients."""

import pytest
import torch
from compare import distances, random
from tolerance import BF16_STEPS, CODE_FLIPS

from unmul.ops.bitlinear import Projection
from unmul.ops.swiglu_project import naive

pytestmark = pytest.mark.usefixtures("poisoned_memory", "fenced_memory")

SIZES = [(1, 1, 3), (63, 100, 41), (17, 500, 70)]
IDS = ["M{}-I{}-N{}".format(*size) for size in SIZES]


def inputs(rows: int, hidden: int, features: int, device: str, dtype: torch.dtype = torch.float32) -> list:
    gain = (1 + random(device, hidden, seed=3, scale=0.2)).detach().requires_grad_()
    return [random(device, rows, 2 * hidden, dtype=dtype), gain, random(device, features, hidden, seed=9, scale=0.05)]


def call(module, int8_backward: bool = False):
    def function(u, gain, weight):
        return module.swiglu_project(u, Projection(gain, weight, int8_backward=int8_backward))

    return function


@pytest.mark.parametrize("int8_backward", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_output_and_gradients_are_those_of_the_formula(size, int8_backward: bool, device: str) -> None:
    from unmul.ops.swiglu_project import triton

    errors = distances(call(triton, int8_backward), call(naive, int8_backward), inputs(*size, device))
    assert {name: error for name, error in errors.items() if not error < CODE_FLIPS} == {}


def test_sixteen_bit_inputs_stay_near(device: str) -> None:
    from unmul.ops.swiglu_project import triton

    errors = distances(call(triton), call(naive), inputs(40, 130, 33, device, torch.bfloat16))
    assert {name: error for name, error in errors.items() if not error < BF16_STEPS} == {}


def test_inputs_may_be_parts_of_wider_rows(device: str) -> None:
    from unmul.ops.swiglu_project import triton

    def part(module):
        return lambda wide, *rest: call(module)(wide[:, 20:], *rest)

    errors = distances(part(triton), part(naive), [random(device, 6, 80, seed=1), *inputs(6, 30, 7, device)[1:]])
    assert {name: error for name, error in errors.items() if not error < CODE_FLIPS} == {}

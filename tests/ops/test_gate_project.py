"""ops.gate_project: the fused exit of the token mixer against its formula, outputs and gradients."""

import pytest
import torch
from compare import distances, random
from tolerance import BF16_STEPS, CODE_FLIPS

from unmul.ops.bitlinear import Projection
from unmul.ops.gate_project import naive

pytestmark = pytest.mark.usefixtures("poisoned_memory", "fenced_memory")

SIZES = [(1, 1, 3), (63, 100, 41), (17, 500, 70)]
IDS = ["M{}-D{}-N{}".format(*size) for size in SIZES]


def inputs(rows: int, width: int, features: int, device: str, dtype: torch.dtype = torch.float32) -> list:
    g, h = (random(device, rows, width, dtype=dtype, seed=seed) for seed in (1, 2))
    gains = [(1 + random(device, width, seed=seed, scale=0.2)).detach().requires_grad_() for seed in (3, 4)]
    return [g, h, *gains, random(device, features, width, seed=9, scale=0.05)]


def call(module, int8_backward: bool = False):
    def function(g, h, outer, inner, weight):
        projection = Projection(inner, weight, int8_backward=int8_backward)
        return module.gate_project(g, h, outer, projection, 1e-6)

    return function


@pytest.mark.parametrize("int8_backward", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_output_and_gradients_are_those_of_the_formula(size, int8_backward: bool, device: str) -> None:
    from unmul.ops.gate_project import triton

    errors = distances(call(triton, int8_backward), call(naive, int8_backward), inputs(*size, device))
    assert {name: error for name, error in errors.items() if not error < CODE_FLIPS} == {}


def test_sixteen_bit_inputs_stay_near(device: str) -> None:
    from unmul.ops.gate_project import triton

    errors = distances(call(triton), call(naive), inputs(40, 130, 33, device, torch.bfloat16))
    assert {name: error for name, error in errors.items() if not error < BF16_STEPS} == {}


def test_leading_dimensions_are_kept(device: str) -> None:
    from unmul.ops.gate_project import triton

    g, h, outer, inner, weight = inputs(6, 20, 7, device)
    y = call(triton)(g, h, outer, inner, weight)
    assert torch.equal(call(triton)(g.view(2, 3, 20), h.view(2, 3, 20), outer, inner, weight), y.view(2, 3, 7))


def test_inputs_may_be_parts_of_wider_rows(device: str) -> None:
    from unmul.ops.gate_project import triton

    def parts(module):
        return lambda both, *rest: call(module)(both[:, 20:50], both[:, 50:], *rest)

    wide = random(device, 6, 80, seed=1)
    errors = distances(parts(triton), parts(naive), [wide, *inputs(6, 30, 7, device)[2:]])
    assert {name: error for name, error in errors.items() if not error < CODE_FLIPS} == {}

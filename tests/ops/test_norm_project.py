"""ops.norm_project: the fused entrance of both mixers against its formula, outputs and gradients."""

import pytest
import torch
from compare import distances, random
from tolerance import BF16_STEPS, CODE_FLIPS, FLOAT32_SUMS

from unmul import ternary
from unmul.ops.bitlinear import EPS, Projection
from unmul.ops.norm_project import naive

pytestmark = pytest.mark.usefixtures("poisoned_memory", "fenced_memory")

SIZES = [(1, 1, 5, 3), (3, 63, 100, 41), (1, 37, 500, 70)]
IDS = ["G{}-M{}-K{}-N{}".format(*size) for size in SIZES]


def inputs(groups: int, rows: int, width: int, features: int, device: str, dtype: torch.dtype = torch.float32) -> list:
    x, delta = (random(device, rows, width, dtype=dtype, seed=seed) for seed in (1, 2))
    gains = [
        (1 + random(device, width, seed=3 + group, scale=0.2)).detach().requires_grad_() for group in range(groups + 1)
    ]
    weights = [random(device, features, width, seed=9 + group, scale=0.05) for group in range(groups)]
    return [x, delta, *gains, *weights]


def call(module, groups: int, int8_backward: bool = False):
    def function(x, delta, outer, *gains_and_weights):
        gains, weights = gains_and_weights[:groups], gains_and_weights[groups:]
        pairs = zip(gains, weights, strict=True)
        projections = [Projection(gain, weight, int8_backward=int8_backward) for gain, weight in pairs]
        summed, outputs = module.norm_project(x, delta, outer, projections, 1e-6)
        return summed, *outputs

    return function


@pytest.mark.parametrize("int8_backward", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("size", SIZES, ids=IDS)
def test_outputs_and_gradients_are_those_of_the_formula(size, int8_backward: bool, device: str) -> None:
    from unmul.ops.norm_project import triton

    functions = (call(module, size[0], int8_backward) for module in (triton, naive))
    errors = distances(*functions, inputs(*size, device))
    assert errors["output 0"] == 0
    assert {name: error for name, error in errors.items() if not error < CODE_FLIPS} == {}


def test_sixteen_bit_streams_stay_near(device: str) -> None:
    from unmul.ops.norm_project import triton

    size = (3, 40, 130, 33)
    errors = distances(call(triton, 3), call(naive, 3), inputs(*size, device, torch.bfloat16))
    assert {name: error for name, error in errors.items() if not error < BF16_STEPS} == {}


def test_the_first_block_has_nothing_to_add(device: str) -> None:
    from unmul.ops.norm_project import triton

    x, _, outer, gain, weight = inputs(1, 9, 20, 7, device)
    found, (y,) = triton.norm_project(x, None, outer, [Projection(gain, weight)], 1e-6)
    expected, (z,) = naive.norm_project(x, None, outer, [Projection(gain, weight)], 1e-6)
    assert torch.equal(found, expected)
    assert torch.allclose(y, z, rtol=0, atol=float(z.detach().abs().max()) * CODE_FLIPS)


def test_codes_are_those_of_the_definition_but_at_boundaries(device: str) -> None:
    from unmul.ops.norm_project import triton

    x, delta, outer, *gains = (tensor.detach() for tensor in inputs(3, 63, 1000, 1, device)[:6])
    summed, q, s = triton.norm_quantise(x, delta, outer, gains, 1e-6, torch.float32)
    normed = torch.nn.functional.rms_norm(summed, outer.shape, outer, 1e-6)
    for group, gain in enumerate(gains):
        exact = torch.nn.functional.rms_norm(normed, gain.shape, gain, EPS)
        codes, scale = ternary.quantise(exact)
        assert torch.allclose(s[group], scale[:, 0], rtol=FLOAT32_SUMS)
        moved = q[group] != codes
        distance_to_half = ((exact * scale) % 1 - 0.5).abs()
        assert (distance_to_half[moved] < 1e-3).all()
        assert moved.sum() < 10


def test_fixed_codes_give_the_integer_product_and_a_gradient_for_x(device: str) -> None:
    from unmul.ops.norm_project import triton

    x, delta, outer, gain, weight = inputs(1, 11, 60, 17, device)
    m = ternary.scale(weight.detach())
    fixed = Projection(gain, ternary.codes(weight.detach(), m).to(torch.int8), m)
    found, expected = (
        torch.autograd.grad(module.norm_project(x, delta, outer, [fixed], 1e-6)[1][0].sum(), (x, delta))
        for module in (triton, call_latent(weight, m))
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def call_latent(weight: torch.Tensor, m: torch.Tensor):
    """The naive form with latent weights of the same codes: fixed weights have no straight-through gradient there."""

    class Latent:
        @staticmethod
        def norm_project(x, delta, outer, projections, eps):
            latent = Projection(projections[0].gain, weight.detach())
            return naive.norm_project(x, delta, outer, [latent], eps)

    return Latent


def test_autocast_narrows_the_stream(device: str) -> None:
    from unmul.ops.norm_project import triton

    x, delta, outer, gain, weight = inputs(1, 5, 16, 8, device)
    with torch.autocast(device, torch.bfloat16):
        summed, (y,) = triton.norm_project(x, delta, outer, [Projection(gain, weight)], 1e-6)
    assert summed.dtype == y.dtype == torch.bfloat16
    (summed.float().sum() + y.float().sum()).backward()
    assert x.grad.dtype == weight.grad.dtype == torch.float32

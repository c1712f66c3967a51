"""Every unit's integers against the real-valued function, on random and extreme inputs."""

import numpy as np
import pytest
from tolerance import GATE_STEPS, NORM_STEPS, RECIPROCAL, SCALE_OF_CODES, SIGMOID

from unmul.gateware import units
from unmul.gateware.scalar import Scalar, constant, to_float

ONE = 1 << units.FRACTION_BITS
EXTREMES = np.array([-(1 << 31), -(1 << 31) + 1, -ONE, -1, 0, 1, ONE, 16 * ONE - 1, 16 * ONE, (1 << 31) - 1])


def real(x):
    return x / ONE


def activations(seed, *shape, size=3.0):
    return np.rint(np.random.default_rng(seed).standard_normal(shape) * size * ONE).astype(np.int64)


def gains(seed, *shape):
    return np.rint(np.random.default_rng(seed).normal(1, 0.3, shape) * (1 << 13)).astype(np.int64)


def roots(width, eps, fraction_bits):
    """sa and sb of a norm whose input has so many fraction bits and whose gain has 13."""
    return constant(width * eps * 4.0**fraction_bits), constant(np.sqrt(width) * 2.0 ** (units.FRACTION_BITS - 13))


def exact_norm(va, vb, eps, fraction_bits):
    x = va / 2.0**fraction_bits
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * vb / (1 << 13)


def test_sigmoid_over_its_whole_range():
    x = np.concatenate([np.arange(-17 * ONE, 17 * ONE, 37), EXTREMES])
    found = real(units.sigmoid(x))
    assert np.abs(found - (1 + np.tanh(real(x) / 2)) / 2).max() < SIGMOID
    assert (found + real(units.sigmoid(-x)))[x != 0].tolist() == [1.0] * (x != 0).sum()
    assert units.sigmoid(EXTREMES)[[0, -1]].tolist() == [0, ONE]


def test_reciprocal_of_all_its_inputs():
    x = np.arange(1 << 16, 1 << 17)
    found = units.reciprocal(x)
    assert np.abs(found * x / (127 * 2.0**26) - 1).max() < RECIPROCAL
    assert found.max() < 1 << 17
    assert units.reciprocal(np.zeros(1, np.int64)) == 0


def test_the_tables_fit_their_block_ram():
    assert units.SIGMOID_VALUES.max() < 1 << 20
    assert 0 <= units.SIGMOID_DELTAS.min() <= units.SIGMOID_DELTAS.max() < 1 << 13
    assert units.RECIPROCAL_VALUES.max() < 1 << 17
    assert 0 < units.RECIPROCAL_DELTAS.min() <= units.RECIPROCAL_DELTAS.max() < 1 << 9


def test_silu_gate_and_mul_are_as_good_as_the_sigmoid():
    x, y = activations(0, 4000), activations(1, 4000)
    bound = np.random.default_rng(2).integers(0, 1 << 15, 4000)
    s = (1 - np.tanh(real(x) / 2)) / 2
    assert np.abs(real(units.silu(x)) - real(x) * (1 - s)).max() < np.abs(real(x)).max() * SIGMOID
    assert np.abs(real(units.gate(x, bound)) - bound / (1 << 15) * s).max() < SIGMOID
    assert np.abs(units.mul(x, y) - real(x) * y).max() <= GATE_STEPS


def test_extreme_inputs_stay_extreme_and_never_wrap():
    assert units.silu(EXTREMES)[-1] == (1 << 31) - 1
    assert np.abs(units.silu(EXTREMES)).max() < 1 << 31
    assert units.gate(EXTREMES, np.full(10, 32767))[0] == 32767 << 5
    assert units.mul(EXTREMES, EXTREMES)[0] == 1 << 42
    assert units.scan(EXTREMES, np.full(10, ONE), -EXTREMES - 1).tolist() == EXTREMES.tolist()


def test_scan_moves_the_state_by_its_share():
    c, h = activations(3, 500), activations(4, 500)
    g = np.random.default_rng(5).integers(0, ONE + 1, 500)
    assert np.abs(units.scan(c, g, h) - (h + real(g) * (c - h))).max() <= GATE_STEPS
    assert units.scan(c, np.zeros_like(c), h).tolist() == h.tolist()
    assert units.scan(c, np.full_like(c, ONE), h).tolist() == c.tolist()


def test_saturate_clips_and_counts():
    values, count = units.saturate(np.array([1 << 31, -(1 << 31), -(1 << 31) - 1, 5, 1 << 62]))
    assert values.tolist() == [(1 << 31) - 1, -(1 << 31), -(1 << 31), 5, (1 << 31) - 1]
    assert count == 3


@pytest.mark.parametrize(
    ("values", "bits"), [([0, 0], 0), ([-1, 0], 0), ([1, 0], 1), ([-2, 1], 1), ([-129, 127], 8), (EXTREMES, 31)]
)
def test_top_is_the_magnitude_that_holds_a_vector(values, bits):
    assert units.top(np.asarray(values)).tolist() == [bits]


@pytest.mark.parametrize("exponent", [-63, -40, -7, -1, 0])
def test_rescale_rounds_to_the_nearest(exponent):
    x = np.array([0, 1, -1, 12345678, -(1 << 50), (1 << 50) + 3])
    found = units.rescale(x, np.full_like(x, exponent))
    assert np.abs(found - x * 2.0**exponent).max() <= 0.5


def test_rescale_by_a_positive_exponent_saturates_all_but_zero():
    found = units.rescale(np.array([0, 1, -1]), np.array([1, 1, 9]))
    assert units.saturate(found)[0].tolist() == [0, (1 << 31) - 1, -(1 << 31)]


@pytest.mark.parametrize("size", [1e-5, 1e-3, 1.0, 60.0])
@pytest.mark.parametrize("width", [1, 77, 256])
def test_norm_is_rmsnorm_whatever_the_size_of_its_input(width, size):
    va, vb = activations(6, 3, width, size=size), gains(7, width)
    found = real(units.norm(va, vb, *roots(width, 1e-6, 20)))
    exact = exact_norm(va, vb, 1e-6, 20)
    assert np.abs(found - exact).max() <= NORM_STEPS * max(np.abs(exact).max(), 1)


def test_norm_of_a_residual_that_fills_its_register():
    va = np.array([[(1 << 31) - 1, -(1 << 31), 12345, 0]])
    found = real(units.norm(va, np.full(4, 1 << 13), *roots(4, 1e-6, 12)))
    assert np.abs(found - exact_norm(va, 1 << 13, 1e-6, 12)).max() < 2 * NORM_STEPS


@pytest.mark.parametrize("size", [1e-4, 1.0, 100.0])
def test_codes_and_their_scale_are_those_of_the_definition(size):
    va, vb = activations(8, 5, 300, size=size), gains(9, 300)
    eps, sb = constant(300 * 1e-6 * 4.0**20), constant(np.sqrt(300) / 127 / (1 << 13))
    q, scale = units.quantise(va, vb, eps, sb)
    exact = exact_norm(va, vb, 1e-6, 20)
    wanted = exact * 127 / np.abs(exact).max(-1, keepdims=True)
    assert np.abs(q - wanted).max() < 0.5 + SCALE_OF_CODES * 127
    assert np.abs(to_float(scale) * 127 / np.abs(exact).max(-1, keepdims=True) - 1).max() < SCALE_OF_CODES


@pytest.mark.parametrize("row", [[0, 0, 0], [-1, 0, 1], [-(1 << 31), 1, 0], [(1 << 31) - 1, 7, 7]])
def test_codes_never_leave_their_byte(row):
    for gain in (-32768, -1, 0, 1, 32767):
        q, scale = units.quantise(np.array([row]), np.full(3, gain), constant(1e-6), constant(1.0))
        assert np.abs(q).max() <= 127
        assert (scale.mantissa == 0).item() == (gain == 0 or not any(row))


def test_the_first_pass_is_exact_for_inputs_of_seventeen_bits():
    va, vb = np.array([[100000, -3, 0]]), np.array([5, -7, 9])
    found = units.statistics(va, vb)
    assert found.products.tolist() == [[500000, 21, 0]]
    assert found.largest.item() == 500000
    squares = Scalar(*(np.asarray(part) for part in found.squares))
    assert abs(to_float(squares).item() / 10000000009 - 1) < 2.0**-15

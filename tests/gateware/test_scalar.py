"""Small floats against float64, over all mantissas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tolerance import SCALAR_CUT, SCALAR_RSQRT

from unmul.errors import GatewareError
from unmul.gateware import scalar
from unmul.gateware.scalar import Scalar

MANTISSAS = np.arange(1 << 15, 1 << 16)


@st.composite
def scalars(draw):
    mantissa = draw(st.one_of(st.just(0), st.integers(1 << 15, (1 << 16) - 1)))
    return Scalar(np.int64(mantissa), np.int64(draw(st.integers(-100, 100)) if mantissa else 0))


def relative(found, exact):
    return float(np.abs(scalar.to_float(found) / exact - 1).max())


def sound(x):
    """Whether every mantissa is in the one form that its value has."""
    return bool(np.all(np.where(x.mantissa == 0, x.exponent == 0, x.mantissa >> 15 == 1)))


@given(st.lists(st.integers(0, (1 << 62) - 1), min_size=1))
def test_bit_lengths_are_pythons(numbers):
    assert scalar.bit_length(np.array(numbers)).tolist() == [number.bit_length() for number in numbers]


@given(st.integers(1, (1 << 48) - 1), st.integers(-60, 60))
def test_a_whole_number_keeps_its_top_sixteen_bits(number, exponent):
    found = scalar.from_int(np.array(number), exponent)
    assert sound(found)
    exact = number * 2.0**exponent
    assert exact * (1 - SCALAR_CUT) < scalar.to_float(found) <= exact


@given(scalars(), scalars())
def test_products_and_sums_are_cut_never_rounded_up(x, y):
    for found, exact in (
        (scalar.multiply(x, y), scalar.to_float(x) * scalar.to_float(y)),
        (scalar.add(x, y), scalar.to_float(x) + scalar.to_float(y)),
    ):
        assert sound(found)
        assert exact * (1 - 2 * SCALAR_CUT) <= scalar.to_float(found) <= exact
    assert [int(part) for part in scalar.add(x, y)] == [int(part) for part in scalar.add(y, x)]


@pytest.mark.parametrize("exponent", [-81, -8, 0, 1, 40])
def test_rsqrt_of_every_mantissa_is_close_and_sound(exponent):
    x = Scalar(MANTISSAS, np.full_like(MANTISSAS, exponent))
    found = scalar.rsqrt(x)
    assert sound(found)
    assert relative(found, 1 / np.sqrt(scalar.to_float(x))) < SCALAR_RSQRT


def test_the_tables_fit_their_block_ram():
    assert 1 << 15 <= scalar.RSQRT_VALUES.min() <= scalar.RSQRT_VALUES.max() < 1 << 16
    assert 0 <= scalar.RSQRT_DELTAS.min() <= scalar.RSQRT_DELTAS.max() < 1 << 7


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-6, 0.0234, 65535.9999, 2.0**-400])
def test_a_constant_is_the_nearest_scalar(value):
    found = scalar.constant(value)
    assert sound(found)
    assert abs(scalar.to_float(found) - value) <= value * 2.0**-16


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), 2.0**600])
def test_what_is_no_scalar_is_refused(value):
    with pytest.raises(GatewareError, match="constant"):
        scalar.constant(value)

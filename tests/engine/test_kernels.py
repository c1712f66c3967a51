"""Every instruction set of this machine against NumPy's integers and the definition's rounding, to the bit."""

import numpy as np
import pytest
from tolerance import EXPONENTIAL

from unmul import ternary
from unmul.engine import _native
from unmul.engine.selftest import aligned_integers

ISAS = _native.instruction_sets()
SHAPES = [(1, 1), (3, 5), (16, 16), (17, 63), (15, 64), (33, 65), (48, 321), (50, 1000), (131, 2049)]
POISON = -559038737  # what a kernel that forgets to write leaves behind


def test_scalar_is_always_there() -> None:
    assert ISAS[0] == "scalar"


def random_codes(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(rows * columns).integers(-1, 2, (rows, columns), np.int8)


def product(code: np.ndarray, q: np.ndarray, isa: str) -> np.ndarray:
    """The native product into poisoned memory."""
    out = aligned_integers(len(q), len(code))
    out[:] = POISON
    _native.Matrix(ternary.pack(code), code.shape[1]).product(isa, q, out)
    assert (out[:, len(code) :] == 0).all(), "padded rows must come out as zeros"
    return out[:, : len(code)]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("rows", "columns"), SHAPES, ids=[f"N{n}-K{k}" for n, k in SHAPES])
def test_product_equals_numpy_for_any_number_of_tokens(rows: int, columns: int, isa: str) -> None:
    code = random_codes(rows, columns)
    for tokens in (*range(1, 10), 13, 16, 23, 32, 41, 129, 150):
        q = np.random.default_rng(tokens).integers(-128, 128, (tokens, columns), np.int8)
        assert (product(code, q, isa) == q.astype(np.int32) @ code.T.astype(np.int32)).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("weight", [-1, 0, 1])
@pytest.mark.parametrize("activation", [-128, 127])
@pytest.mark.parametrize("tokens", [1, 4, 8])
def test_product_never_saturates_on_extremes(tokens: int, activation: int, weight: int, isa: str) -> None:
    columns = 4096
    code = np.full((19, columns), weight, np.int8)
    q = np.full((tokens, columns), activation, np.int8)
    assert (product(code, q, isa) == activation * weight * columns).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("columns", [1, 15, 64, 1000, 5632])
def test_quantise_equals_the_definition(columns: int, isa: str) -> None:
    random = np.random.default_rng(columns)
    halves = random.integers(-254, 255, columns).astype(np.float32) / 2  # times 127/127: exact halves
    halves[0] = 127
    rows = [random.normal(0, 3, columns), random.normal(0, 1e-7, columns), np.zeros(columns), halves]
    for x in (row.astype(np.float32) for row in rows):
        q = np.empty(columns, np.int8)
        scale = _native.quantise(isa, x, q)
        expected, expected_scale = ternary.quantise(x)
        assert np.float32(scale) == expected_scale[0]
        assert (q == expected).all()


@pytest.mark.parametrize("isa", ISAS)
def test_exponential_over_its_whole_range(isa: str) -> None:
    x = np.linspace(-87, 88, 400_001, dtype=np.float32)
    y = np.empty_like(x)
    _native.exponential(isa, x, y)
    exact = np.exp(x.astype(np.float64))
    assert np.abs(y / exact - 1).max() < EXPONENTIAL


@pytest.mark.parametrize("isa", ISAS)
def test_exponential_clamps_outside_and_keeps_nan(isa: str) -> None:
    x = np.array([-np.inf, -1e30, 1e30, np.inf, np.nan, 0], np.float32)
    y = np.empty_like(x)
    _native.exponential(isa, x, y)
    low, high = np.exp(-87.0), np.exp(88.0)
    assert np.allclose(y[:4], [low, low, high, high], rtol=EXPONENTIAL, atol=0)
    assert np.isnan(y[4])
    assert y[5] == 1


@pytest.mark.parametrize("isa", ISAS)
def test_float_results_are_the_same_bits_as_scalar(isa: str) -> None:
    x = np.random.default_rng(0).normal(0, 20, 10_007).astype(np.float32)
    mine, scalar = np.empty_like(x), np.empty_like(x)
    _native.exponential(isa, x, mine)
    _native.exponential("scalar", x, scalar)
    assert mine.tobytes() == scalar.tobytes()


def test_bytes_beyond_five_trits_are_refused() -> None:
    packed = ternary.pack(random_codes(20, 20))
    packed[19, 3] = 243
    with pytest.raises(ValueError, match="not five ternary digits"):
        _native.Matrix(packed, 20)


def test_wrong_shapes_are_refused() -> None:
    matrix = _native.Matrix(ternary.pack(random_codes(20, 20)), 20)
    with pytest.raises(ValueError, match="another width"):
        matrix.product("scalar", np.zeros((1, 21), np.int8), aligned_integers(1, 20))
    with pytest.raises(ValueError, match="64-byte aligned"):
        matrix.product("scalar", np.zeros((1, 20), np.int8), np.zeros((1, 20), np.int32))
    with pytest.raises(ValueError, match="unknown instruction set"):
        matrix.product("none", np.zeros((1, 20), np.int8), aligned_integers(1, 20))

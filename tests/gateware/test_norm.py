"""The norm unit equals its twins: elements, codes and scale, for vectors of every size of number."""

import numpy as np
import pytest
from amaranth.sim import SimulatorContext
from benches import Bench, operation, random_elements, scalar

from unmul.gateware import units
from unmul.gateware.norm import NormUnit
from unmul.gateware.parameters import Parameters
from unmul.gateware.scalar import constant

PARAMETERS = Parameters(lanes=16, vector_depth=256)


class CodeBench(Bench):
    """Collects the rows of codes."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.rows = {}

    def watch(self, ctx: SimulatorContext) -> None:
        if ctx.get(self.unit.row_write):
            self.rows[ctx.get(self.unit.row_address)] = ctx.get(self.unit.row_data)
        self.scale = ctx.get(self.unit.scale.mantissa), ctx.get(self.unit.scale.exponent)

    def codes(self) -> np.ndarray:
        lanes = PARAMETERS.lanes
        return np.concatenate(
            [np.frombuffer(self.rows[row].to_bytes(lanes, "little"), np.int8) for row in sorted(self.rows)]
        )


def vectors(kind: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    gains = rng.integers(-(2**15), 2**15, count)
    cases = {
        "usual": rng.normal(0, 1 << 20, count).astype(np.int64),
        "every size": random_elements(count, 7),
        "small": rng.integers(-3, 4, count),
        "zero": np.zeros(count, np.int64),
        "lowest": np.full(count, -(2**31)),
    }
    return cases[kind], gains


KINDS = ["usual", "every size", "small", "zero", "lowest"]


def constants(count: int):
    return constant(count * 1e-6 * 2.0**40), constant(float(np.sqrt(count)) * 2.0**6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 37, 256])
def test_norm_equals_its_twin(kind, count):
    va, vb = vectors(kind, count)
    sa, sb = constants(count)
    expected, clipped = units.saturate(units.norm(va, vb, sa, sb))
    fields = {"count": count, "sa": scalar(sa), "sb": scalar(sb), "top": int(units.top(va)[0])}
    bench = Bench(NormUnit(PARAMETERS), va, vb).run(operation("norm", **fields))
    assert bench.written(count) == expected.tolist()
    assert bench.clipped == clipped


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 16, 37, 256])
def test_quant_equals_its_twin_and_fills_the_last_row_with_zeros(kind, count):
    va, vb = vectors(kind, count)
    sa, sb = constants(count)
    codes, scale = units.quantise(va, vb, sa, sb)
    fields = {"count": count, "sa": scalar(sa), "sb": scalar(sb), "top": int(units.top(va)[0])}
    bench = CodeBench(NormUnit(PARAMETERS), va, vb).run(operation("quant", **fields))
    assert bench.vd == {}
    assert bench.codes()[:count].tolist() == codes.tolist()
    assert not bench.codes()[count:].any()
    assert bench.scale == (int(scale.mantissa[0]), int(scale.exponent[0]))

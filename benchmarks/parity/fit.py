"""Power laws through the results of parity.py, with their uncertainty, and what they say at equal weight bytes.

    python benchmarks/parity/fit.py runs/parity [--out report.json]

Bits a byte = a x^-b for each kind of model, by least squares of the logarithms, x being parameters without embeddings
and head, training FLOPs, or bytes of the weights where the model is used (train.flops.weight_bytes). The noise of a run
is what runs of one point with several seeds differ by; intervals hold 90 of 100 fits to results shaken by it.
Three sizes carry a law of two numbers and no more: it holds between them, and an offset at infinite size is not seen.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent))
from runner import read_results

AXES = ("inner_parameters", "flops", "weight_bytes")
BITS = "bits_per_byte"
OURS, RIVAL = "matmulfree", "transformer"
DRAWS = 2000

Values = npt.NDArray[np.float64]
Result = Mapping[str, Any]
Results = Sequence[Result]


def tuned(results: Results) -> list[Result]:
    """Of the runs that differ in their rate alone, the best one: each kind is judged by what tuning made of it."""
    found: dict[tuple[Any, ...], Result] = {}
    for result in sorted(results, key=lambda result: float(result[BITS])):
        found.setdefault((result["shape"], result["model.type"], result.get("train.seed")), result)
    return [result for result in results if result in found.values()]


def noise(results: Results) -> float | None:
    """Standard deviation of log bits between seeds of one point, pooled; None where no point has two."""
    groups = defaultdict(list)
    for result in results:
        groups[result["shape"], result["model.type"]].append(math.log(result[BITS]))
    repeated = [np.array(group) for group in groups.values() if len(group) > 1]
    if not repeated:
        return None
    freedom = sum(len(group) - 1 for group in repeated)
    return math.sqrt(sum(float(((group - group.mean()) ** 2).sum()) for group in repeated) / freedom)


def law(results: Results, axis: str) -> tuple[float, float]:
    """a and b of bits = a x^-b."""
    x, y = (np.log([float(result[key]) for result in results]) for key in (axis, BITS))
    slope, intercept = np.polyfit(x, y, 1)
    return math.exp(intercept), -float(slope)


def shaken(results: Results, sd: float, ask: Callable[[Results], float]) -> list[float]:
    """The 5th and 95th percentile of an answer over results that are shaken by the noise."""
    random = np.random.default_rng(0)
    answers = []
    for _ in range(DRAWS):
        factors = np.exp(random.normal(0, sd, len(results)))
        moved = [{**result, BITS: result[BITS] * factor} for result, factor in zip(results, factors, strict=True)]
        answers.append(ask(moved))
    return [float(value) for value in np.percentile(answers, (5, 95))]


def estimate(results: Results, sd: float | None, ask: Callable[[Results], float]) -> dict[str, Any]:
    """An answer and its interval, null where the noise is not known."""
    return {"value": ask(results), "interval": None if sd is None else shaken(results, sd, ask)}


def of_kind(results: Results, kind: str, shape: str | None = None) -> list[Result]:
    """The results of one kind of model, at one shape or at all."""
    return [result for result in results if result["model.type"] == kind and shape in (None, result["shape"])]


def gap(results: Results, kind: str, shape: str) -> float:
    """By how many percent a kind of model needs more bits than the Transformer of the same shape."""
    mean = {name: np.mean([result[BITS] for result in of_kind(results, name, shape)]) for name in (kind, RIVAL)}
    return float(100 * (mean[kind] / mean[RIVAL] - 1))


def gap_at_bytes(results: Results, shape: str) -> float:
    """By how many percent ours needs more bits than the Transformer's law says for as many bytes of weights."""
    ours = of_kind(results, OURS, shape)
    a, b = law(of_kind(results, RIVAL), "weight_bytes")
    expected = a * float(ours[0]["weight_bytes"]) ** -b
    return float(100 * (np.mean([result[BITS] for result in ours]) / expected - 1))


def report(results: Results) -> dict[str, Any]:
    """All of it: noise, laws, gaps at equal shapes and at equal bytes, of each point the run with the best rate."""
    results = tuned(results)
    sd = noise(results)
    kinds, shapes = (list(dict.fromkeys(result[key] for result in results)) for key in ("model.type", "shape"))
    fitted = [kind for kind in kinds if len({result["shape"] for result in of_kind(results, kind)}) > 1]
    laws = {
        axis: {
            kind: {"a": law(of_kind(results, kind), axis)[0]}
            | {"b": estimate(of_kind(results, kind), sd, lambda moved, x=axis: law(moved, x)[1])}
            for kind in fitted
        }
        for axis in AXES
    }
    there = {(result["model.type"], result["shape"]) for result in results}
    gaps = {
        kind: {
            shape: estimate(results, sd, lambda moved, k=kind, s=shape: gap(moved, k, s))
            for shape in shapes
            if {(kind, shape), (RIVAL, shape)} <= there
        }
        for kind in kinds
        if kind != RIVAL
    }
    equal = {
        shape: estimate(results, sd, lambda moved, s=shape: gap_at_bytes(moved, s))
        for shape in shapes
        if RIVAL in fitted and (OURS, shape) in there
    }
    return {"noise": sd, "laws": laws, "gap_percent": gaps, "gap_percent_at_equal_bytes": equal}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = read_results(options.folder)
    if not results:
        sys.exit(f"{options.folder} has no results: run parity.py first")
    found = json.dumps(report(results), indent=1)
    print(found)
    if options.out:
        options.out.write_text(json.dumps({"results": results, **json.loads(found)}, indent=1) + "\n")


if __name__ == "__main__":
    main()

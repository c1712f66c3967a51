"""MatMul-free, Transformer and the two between them at several sizes, on equal tokens, data, tokenizer and context.

    python benchmarks/parity/parity.py benchmarks/parity/parity.toml --rates runs/sweep --out runs/parity \
        --seconds 500 --parallel 3 [--carried CARRIED] [--collect $OUT] [--set key=value ...]

Each kind of model takes the learning rate that was best for it in the sweep, at the same shape where that was swept,
else at the largest one that was. Runs that the sweep has made already are taken over. The same command again goes on.
fit.py says what came of it. At toy size anywhere:

    python benchmarks/parity/sweep.py benchmarks/parity/toy.toml --out /tmp/sweep
    python benchmarks/parity/parity.py benchmarks/parity/toy.toml --rates /tmp/sweep --out /tmp/parity
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from runner import Job, Plan, adopt, read_plan, read_results, run_all
from session import collect, corpus, plan_parser
from sweep import best, table

RATE = "train.lr"


def rate_for(point: Mapping[str, Any], swept: Sequence[Mapping[str, Any]]) -> float:
    """The best rate of the point's kind of model, at its shape or else at the largest shape that was swept."""
    same_kind = [result for result in best(swept).values() if result["model.type"] == point["model.type"]]
    if not same_kind:
        sys.exit(f"the sweep has no result for model.type {point['model.type']}: sweep it first")
    nearest = max(same_kind, key=lambda result: (result["shape"] == point["shape"], result["parameters"]))
    return float(nearest[RATE])


def jobs(plan: Plan, swept: Sequence[Mapping[str, Any]]) -> list[Job]:
    """The runs of a plan with their rates; a grid's own rates, which a sweep has tried, give way to the best one."""
    points = [{key: value for key, value in job.point.items() if key != RATE} for job in plan.jobs()]
    rated = {plan.job(point).name: point | {RATE: rate_for(point, swept)} for point in points}
    return [plan.job(point) for point in rated.values()]


def main() -> None:
    parser = plan_parser(__doc__)
    parser.add_argument("--rates", type=Path, required=True, help="the folder of a sweep")
    options = parser.parse_args()
    overrides = corpus(options.carried, options.parts, options.out.parent)
    if overrides is None:
        return
    plan = read_plan(options.plan, [*options.set, *overrides])
    wanted = jobs(plan, read_results(options.rates))
    adopt(options.rates, wanted, options.out)
    whole = run_all(plan, wanted, options.out, seconds=options.seconds, parallel=options.parallel)
    print(table(read_results(options.out)))
    collect(options.out, options.collect)
    if not whole:
        sys.exit("not all runs are done: the same command goes on")


if __name__ == "__main__":
    main()

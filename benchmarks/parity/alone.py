"""What a token of training costs in joules, kind by kind and shape by shape, with nothing else on the GPU.

    python benchmarks/parity/alone.py benchmarks/parity/parity.toml --study runs/parity --out runs/alone \
        [--gpus 0] [--seconds 500] [--carried CARRIED] [--collect $OUT] [--set key=value ...]

Runs that stood side by side counted one another's joules. So the best run of each shape and kind begins once more,
alone, for --each seconds; energy.json says joules a token and tokens a second of its second half. `--apply` writes
tokens times joules a token into the study's logs, from which figures against joules are drawn:

    python benchmarks/parity/alone.py benchmarks/parity/parity.toml --study runs/parity --out runs/alone --apply
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unmul.files import write_text

sys.path.insert(0, str(Path(__file__).resolve().parent))
from runner import Job, Plan, read_plan, read_results, run_all
from session import collect, corpus, plan_parser
from sweep import GROUP, best

ENERGY = "energy.json"
LEAST = 50  # steps that must be there to be halved: the first ones compile
ENDLESS = ("train.steps=1000000", "train.validate_every=1000000")


def jobs(plan: Plan, results: Sequence[Mapping[str, Any]]) -> list[Job]:
    """The best run of each shape and kind, without an end."""
    chosen = {result["name"] for result in best(results).values()}
    points = [
        {key: result[key] for key in _asked(plan) if key in result} for result in results if result["name"] in chosen
    ]
    found = [plan.job(point) for point in points]
    return [Job(job.point, (*job.overrides, *ENDLESS)) for job in found]


def joules_a_token(log: Sequence[Mapping[str, float]]) -> tuple[float, float]:
    """Joules a token and tokens a second of the second half of a log's steps."""
    steps = [line for line in log if "loss" in line]
    if len(steps) < LEAST or steps[-1].get("joules") is None:
        sys.exit(f"{len(steps)} steps, or no joules: give each run more seconds, on a machine with a meter")
    first, last = steps[len(steps) // 2], steps[-1]
    joules, tokens, seconds = (last[key] - first[key] for key in ("joules", "tokens", "seconds"))
    return joules / tokens, tokens / seconds


def apply(study: Path, energy: Sequence[Mapping[str, Any]]) -> None:
    """Write a study's logs anew with the joules that its runs would have taken alone; the card's stay beside them."""
    cost = {tuple(one[key] for key in GROUP): one["joules_a_token"] for one in energy}
    for result in read_results(study):
        own = [_own(line, cost[tuple(result[key] for key in GROUP)]) for line in _log(study / result["name"])]
        text = "".join(json.dumps(line) + "\n" for line in own)
        write_text(study / result["name"] / "log.jsonl", text)


def _own(line: dict[str, Any], cost: float) -> dict[str, Any]:
    return line | {"joules": line["tokens"] * cost, "card_joules": line.get("card_joules", line.get("joules"))}


def _asked(plan: Plan) -> list[str]:
    """What the points of a plan name, in order, the rate last as the study adds it."""
    keys = dict.fromkeys(key for grid in plan.grids for key in grid if key not in ("times", "train.lr"))
    return [*keys, "train.lr"]


def _log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]


def main() -> None:
    parser = plan_parser(__doc__)
    parser.add_argument("--study", type=Path, required=True, help="the folder of parity.py")
    parser.add_argument("--each", type=float, default=20, help="seconds of every run, its compiling included")
    parser.add_argument("--apply", action="store_true", help="write the joules into the study's logs, run nothing")
    options = parser.parse_args()
    if options.apply:
        return apply(options.study, json.loads((options.out / ENERGY).read_text("utf-8")))
    overrides = corpus(options.carried, options.parts, options.out.parent)
    if overrides is None:
        return
    plan = read_plan(options.plan, [*options.set, *overrides])
    wanted = jobs(plan, read_results(options.study))
    run_all(plan, wanted, options.out, seconds=options.seconds, parallel=1, gpus=options.gpus, each=options.each)
    measured = [(job, *joules_a_token(_log(options.out / job.name))) for job in wanted]
    found = [
        {key: job.point[key] for key in GROUP} | {"joules_a_token": joules, "tokens_per_s": speed}
        for job, joules, speed in measured
    ]
    write_text(options.out / ENERGY, json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    collect(options.out, options.collect)


if __name__ == "__main__":
    main()

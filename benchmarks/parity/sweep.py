"""A sweep: all runs of a plan side by side, then what was best for each shape and kind of model.

    python benchmarks/parity/sweep.py benchmarks/parity/sweep.toml --out runs/sweep --seconds 500 --parallel 3 \
        [--carried CARRIED] [--collect $OUT] [--set key=value ...]

The same command again goes on where the time ended it. Calls on a borrowed machine: README.md. At toy size anywhere:

    python benchmarks/parity/sweep.py benchmarks/parity/toy.toml --out /tmp/sweep
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from runner import read_plan, read_results, run_all
from session import collect, corpus, plan_parser

GROUP = ("shape", "model.type")


def best(results: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    """The result with the fewest bits a byte of each shape and kind of model."""
    found: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for result in sorted(results, key=lambda result: float(result["bits_per_byte"])):
        found.setdefault(tuple(result.get(key, "") for key in GROUP), result)
    return found


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Every result as a row of Markdown, the best of each group in bold; a best one at an edge shows by its place."""
    bold = {result["name"] for result in best(results).values()}
    rows = ["| run | bits a byte | tokens | tokens/s | parameters |", "|---|---|---|---|---|"]
    for result in sorted(results, key=lambda result: str(result["name"])):
        mark = "**" if result["name"] in bold else ""
        rows.append(
            f"| {result['name']} | {mark}{result['bits_per_byte']:.4f}{mark} | {result['tokens']:,}"
            f" | {result['tokens_per_s']:,.0f} | {result['parameters']:,} |"
        )
    return "\n".join(rows)


def main() -> None:
    options = plan_parser(__doc__).parse_args()
    overrides = corpus(options.carried, options.parts, options.out.parent)
    if overrides is None:
        return
    plan = read_plan(options.plan, [*options.set, *overrides])
    whole = run_all(plan, list(plan.jobs()), options.out, seconds=options.seconds, parallel=options.parallel)
    print(table(read_results(options.out)))
    collect(options.out, options.collect)
    if not whole:
        sys.exit("not all runs are done: the same command goes on")


if __name__ == "__main__":
    main()

"""Streams at once against a server: tokens a second in all, time to the first token, time between tokens.

    python benchmarks/serve/load.py [--models default 370m] [--streams 1 4 16 64] [--rounds 5] [--out DIR]

Each stream sends a prompt of its own (random token ids, so that nothing is cached) and reads an answer of fixed length.
The clients run on the same machine and take their share of it. Writes serve_load_<machine>_<date>.md and .json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "decode"))
from engine import REPOSITORY, describe, write_report
from process import Served, model_folder, serving

Row = dict[str, Any]
VOCABULARY = 2000  # of the smallest model that is measured


def main() -> None:
    """Measure, write the report."""
    options = arguments()
    figures = [row for name in options.models for row in measure_model(name, options)]
    document = describe() | {"figures": figures}
    print(write_report(options.out, "serve_load", document, report(document, options)))


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["default", "370m"], help="default, a folder, or a preset")
    parser.add_argument("--streams", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--prompt", type=int, default=64, help="tokens of each prompt")
    parser.add_argument("--new", type=int, default=64, help="tokens of each answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "reports")
    return parser.parse_args()


def measure_model(name: str, options: argparse.Namespace) -> list[Row]:
    """One row for each number of streams, after a round that only warms up."""
    with model_folder(name) as folder, serving(folder, "--state-memory", "0") as served:
        asyncio.run(one_round(served, 2, options))
        return [asyncio.run(measure_streams(served, name, count, options)) for count in options.streams]


async def measure_streams(served: Served, name: str, count: int, options: argparse.Namespace) -> Row:
    """Several rounds of so many streams at once."""
    rates, firsts, gaps = [], [], []
    for _ in range(options.rounds):
        start = time.perf_counter()
        streams = await one_round(served, count, options)
        rates.append(sum(len(times) for _, times in streams) / (time.perf_counter() - start))
        firsts += [times[0] - sent for sent, times in streams]
        gaps += [after - before for _, times in streams for before, after in pairwise(times)]
    return {
        "model": name,
        "backend": served.backend,
        "streams": count,
        "tokens_per_s": median(rates),
        "spread": [min(rates), max(rates)],
        "first_token_s": percentiles(firsts),
        "between_tokens_s": percentiles(gaps),
    }


async def one_round(served: Served, count: int, options: argparse.Namespace) -> list[tuple[float, list[float]]]:
    """Of each stream, when it was sent and when each token came."""
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=served.url, timeout=600, limits=limits) as client:
        return await asyncio.gather(*(one_stream(client, options) for _ in range(count)))


async def one_stream(client: httpx.AsyncClient, options: argparse.Namespace) -> tuple[float, list[float]]:
    """An answer that does not end early: what the model's end token cuts off is asked for again."""
    sent, times = time.perf_counter(), []
    while len(times) < options.new:
        prompt = [random.randrange(3, VOCABULARY) for _ in range(options.prompt)]
        body = {"prompt": prompt, "max_tokens": options.new - len(times), "stream": True}
        body["stream_options"] = {"continuous_usage_stats": True}
        times += await token_times(client, body)
    return sent, times


async def token_times(client: httpx.AsyncClient, body: dict[str, Any]) -> list[float]:
    """When each token of one answer came; tokens that come in one chunk have one time."""
    times: list[float] = []
    async with client.stream("POST", "/v1/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                count = json.loads(line[6:])["usage"]["completion_tokens"]
                times += [time.perf_counter()] * (count - len(times))
    return times


def percentiles(values: list[float]) -> dict[str, float]:
    """The middle, and what one in a hundred exceeds."""
    if len(values) < 2:
        return dict.fromkeys(("p50", "p99"), values[0])
    return {"p50": median(values), "p99": quantiles(values, n=100)[98]}


def report(document: dict[str, Any], options: argparse.Namespace) -> str:
    """The report as Markdown."""
    where = document["machine"]
    lines = [
        f"# Serving, {where['cpu']}, {document['date']}",
        "",
        f"Commit {document['commit']}; {where['cores']} cores; {where['system']}; Python {where['python']}.",
        f"Command: `{' '.join(['python', *document['command']])}`. Each stream: a prompt of {options.prompt} tokens of",
        f"its own, {options.new} new; median of {options.rounds} rounds [least, most]; clients on the same machine.",
        "",
        "| model | streams | tokens/s in all | against 1 | first token ms p50, p99 | between tokens ms p50, p99 |",
        "|---|---|---|---|---|---|",
    ]
    rows = document["figures"]
    single = {row["model"]: row["tokens_per_s"] for row in rows if row["streams"] == 1}
    return "\n".join(lines + [table_row(row, single.get(row["model"])) for row in rows]) + "\n"


def table_row(row: Row, single: float | None) -> str:
    """One line of the table."""
    rate = f"{row['tokens_per_s']:.0f} [{row['spread'][0]:.0f}, {row['spread'][1]:.0f}]"
    gain = f"{row['tokens_per_s'] / single:.2f} x" if single else ""
    times = [
        f"{1e3 * row[name]['p50']:.1f}, {1e3 * row[name]['p99']:.1f}" for name in ("first_token_s", "between_tokens_s")
    ]
    return "| " + " | ".join([row["model"], str(row["streams"]), rate, gain, *times]) + " |"


if __name__ == "__main__":
    main()

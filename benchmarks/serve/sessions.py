"""Open sessions against a server: memory of each, beside its state's bytes and a Transformer's cache of that shape.

    python benchmarks/serve/sessions.py [--models default 370m] [--sessions 1000] [--out benchmarks/reports]

The Transformer's number is arithmetic: keys and values in 16 bits of every layer, for --context tokens.
Writes serve_sessions_<machine>_<date>.md and .json.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "decode"))
from engine import REPOSITORY, describe, write_report
from process import Served, model_folder, serving

AT_ONCE = 16
WARM_ROUNDS = 5  # until the server's memory stands still: what grows then are the sessions
MEGABYTES = "4096"  # no session may be forgotten


def main() -> None:
    """Measure, write the report."""
    options = arguments()
    document = describe() | {"figures": [measure_model(name, options) for name in options.models]}
    print(write_report(options.out, "serve_sessions", document, report(document, options)))


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["default", "370m"], help="default, a folder, or a preset")
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--context", type=int, default=2048, help="tokens, for the Transformer's cache")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "reports")
    return parser.parse_args()


def measure_model(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Memory before and after opening the sessions; those of the warm-up are open before, asked often."""
    with model_folder(name) as folder, serving(folder, "--state-memory", MEGABYTES) as served:
        for _ in range(WARM_ROUNDS):
            asyncio.run(open_sessions(served, "warm", 200))
        before = served.rss_bytes()
        asyncio.run(open_sessions(served, "kept", options.sessions))
        grown = served.rss_bytes() - before
        described = httpx.get(f"{served.url}/v1/models").json()["data"][0]["meta"]
    return {
        "model": name,
        "sessions": options.sessions,
        "bytes_each": grown / options.sessions,
        "state_bytes": served.state_bytes,
        "transformer_bytes_each": options.context * described["transformer_cache_bytes_per_token"],
    }


async def open_sessions(served: Served, prefix: str, count: int) -> None:
    """Sessions with one short answer each, some at a time."""
    places = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=served.url, timeout=600) as client:

        async def one(index: int) -> None:
            async with places:
                prompt = [3 + index % 1000, 4 + index // 1000, 5]
                body = {"prompt": prompt, "session": f"{prefix}-{index}", "max_tokens": 2}
                (await client.post("/v1/completions", json=body)).raise_for_status()

        await asyncio.gather(*(one(index) for index in range(count)))


def report(document: dict[str, Any], options: argparse.Namespace) -> str:
    """The report as Markdown."""
    where = document["machine"]
    lines = [
        f"# {options.sessions} open sessions, {where['cpu']}, {document['date']}",
        "",
        f"Commit {document['commit']}; {where['system']}; Python {where['python']}.",
        f"Command: `{' '.join(['python', *document['command']])}`. Growth of the server's resident memory; the",
        f"Transformer's cache is arithmetic for {options.context} tokens.",
        "",
        "| model | kB a session | state kB | ratio | Transformer's cache kB | of all sessions MB | Transformers' MB |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join(lines + [table_row(row) for row in document["figures"]]) + "\n"


def table_row(row: dict[str, Any]) -> str:
    """One line of the table."""
    each, state, other, count = (row[k] for k in ("bytes_each", "state_bytes", "transformer_bytes_each", "sessions"))
    kilobytes = f"{each / 1e3:.2f} | {state / 1e3:.2f} | {each / state:.2f} | {other / 1e3:.0f}"
    return f"| {row['model']} | {kilobytes} | {each * count / 1e6:.1f} | {other * count / 1e6:.0f} |"


if __name__ == "__main__":
    main()

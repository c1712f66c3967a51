"""Decode and prefill of the native engine on the published shapes, with random ternary weights.

    python benchmarks/decode/engine.py [--presets 370m 1.3b 2.7b] [--threads 1 2] [--out benchmarks/reports]

Checks the engine against its NumPy twin first and measures nothing if it differs. Writes cpu_engine_<machine>_<date>.md
and the raw figures as .json beside it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unmul.config import preset
from unmul.engine.bench import BenchRequest, measure, write_random
from unmul.engine.choose import choose_isa, physical_cores
from unmul.files import write_text

REPOSITORY = Path(__file__).resolve().parents[2]
CHECK = "tests/engine"
PROMPT, NEW, RUNS = 512, 128, 5


def main() -> None:
    """Check, measure, write the report."""
    options = arguments()
    check()
    figures = [row for name in options.presets for row in measure_preset(name, options.threads)]
    document = describe() | {"figures": figures}
    print(write_report(options.out, "cpu_engine", document, report(document)))


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["370m", "1.3b", "2.7b"])
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({1, physical_cores()}))
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "reports")
    return parser.parse_args()


def check() -> None:
    """Stop unless the engine's tests pass: a wrong engine has no speed."""
    if subprocess.run([sys.executable, "-m", "pytest", CHECK], cwd=REPOSITORY).returncode != 0:
        sys.exit(f"{CHECK} fails: nothing was measured")


def measure_preset(name: str, thread_counts: list[int]) -> list[dict[str, Any]]:
    """One row of figures per thread count."""
    with tempfile.TemporaryDirectory(prefix="unmul-bench-") as temporary:
        folder = Path(temporary) / name
        write_random(folder, preset(name))
        reports = [measure(folder, BenchRequest(count, PROMPT, NEW, runs=RUNS)) for count in thread_counts]
    return [{"preset": name, **asdict(found)} for found in reports]


def describe() -> dict[str, Any]:
    """Where, when and what is measured."""
    date = datetime.date.today().isoformat()
    return {"machine": machine(), "date": date, "commit": commit(), "command": sys.argv}


def write_report(folder: Path, what: str, document: dict[str, Any], text: str) -> Path:
    """<what>_<machine>_<date>.md, and the raw figures as .json beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{what}_{slug(document['machine']['cpu'])}_{document['date']}.md"
    write_text(path.with_suffix(".json"), json.dumps(document, indent=2) + "\n")
    write_text(path, text)
    return path


def machine() -> dict[str, str]:
    """Processor, system and Python, as they call themselves, and who else may use the cores."""
    information = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", information.read_text()) if information.exists() else None
    return {
        "cpu": found[1] if found else platform.processor() or platform.machine(),
        "cores": str(physical_cores()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "kernels": choose_isa(),
        "scheduling": "SCHED_FIFO"
        if hasattr(os, "SCHED_FIFO") and os.sched_getscheduler(0) == os.SCHED_FIFO
        else "normal",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def scheduling() -> str:
    """Whether other processes must wait for this one."""
    realtime = hasattr(os, "SCHED_FIFO") and os.sched_getscheduler(0) == os.SCHED_FIFO
    return "real time (SCHED_FIFO)" if realtime else "normal"


def commit() -> str:
    """The commit that was measured, with a mark if files differ from it."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def slug(text: str) -> str:
    """Letters and digits only, for a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def report(document: dict[str, Any]) -> str:
    """The report as Markdown."""
    where = document["machine"]
    lines = [
        f"# CPU decode, {where['cpu']}, {document['date']}",
        "",
        f"Commit {document['commit']}; {where['cores']} cores; {where['system']}; Python {where['python']}.",
        f"Command: `{' '.join(['python', *document['command']])}`. Random ternary weights, prompt {PROMPT}, new {NEW},",
        f"median of {RUNS} runs [least, most] after a warm-up; peak memory is VmHWM of a process that only ran this.",
        "",
        "| model | backend | decode tok/s | prefill tok/s | GB/s | of what is read | peak MB | file MB | load s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join(lines + [table_row(row) for row in document["figures"]]) + "\n"


def table_row(row: dict[str, Any]) -> str:
    """One line of the table."""
    decode, prefill = (f"{row[k]:.1f} [{row[s][0]:.1f}, {row[s][1]:.1f}]" for k, s in RATES)
    memory = f"{row['peak_rss_bytes'] / 1e6:.0f}"
    share = f"{row['bandwidth_share']:.0%} of {row['machine_GBs']:.1f}"
    cells = [row["preset"], row["backend"], decode, prefill, f"{row['bandwidth_GBs']:.1f}", share, memory]
    return "| " + " | ".join([*cells, f"{row['file_bytes'] / 1e6:.0f}", f"{row['load_s']:.2f}"]) + " |"


RATES = (("decode_tokens_per_s", "decode_spread"), ("prefill_tokens_per_s", "prefill_spread"))

if __name__ == "__main__":
    main()

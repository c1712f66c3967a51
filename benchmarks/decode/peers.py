"""Our engine beside llama.cpp on the same matrices, machine and threads, in one interleaved run.

    python benchmarks/decode/peers.py [--series 370m:2 1.3b:1 1.3b:2 2.7b:2] [--rounds 5]

PEER_PYTHON names a Python that has llama-cpp-python and gguf; unset, it is this one. A round is a fresh process of each
engine, one after another, so that a noisy minute touches all; `chrt -f 50` before the command keeps other processes off
the cores. Ours runs as it is, with AVX2 kernels only, and with a batch of 16. Our tests run first. Writes
cpu_decode_<machine>_<date>.md and the raw figures as .json beside it.
"""

# The peers have attention and a KV cache besides the matrices, and an F16 embedding; ours has its recurrence.

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from engine import REPOSITORY, check, describe, write_report

from unmul.config import preset
from unmul.engine import _native
from unmul.engine.bench import BenchRequest, write_random
from unmul.engine.choose import ISA_VARIABLE, physical_cores

HERE = Path(__file__).resolve().parent
OURS = {"unmul": ("", 1), "unmul, avx2": ("avx2", 1), "unmul, batch 16": ("", 16)}  # forced instruction set, sequences
PEERS = ("TQ1_0", "TQ2_0", "Q4_0")
YARDSTICK = "TQ2_0"
PROMPT, NEW = 512, 128
PHASES = ("decode", "prefill")
PEER_PYTHON = os.environ.get("PEER_PYTHON", sys.executable)

Rates = dict[str, float]


def main() -> None:
    """Check, measure round by round, write the report after each series."""
    options = arguments()
    check()
    document = describe() | {"rounds": options.rounds, "peers": versions(), "left_out": {}, "figures": []}
    for name, thread_counts in options.series.items():
        with tempfile.TemporaryDirectory(prefix="unmul-peers-") as temporary:
            files = prepare(Path(temporary), name, document["left_out"])
            for threads in thread_counts:
                rounds = [one_round(files, threads) for _ in range(options.rounds)]
                document["figures"].append({"preset": name, "threads": threads, "engines": summary(rounds)})
                print(write_report(options.out, "cpu_decode", document, report(document)), flush=True)


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    both = [f"{name}:{threads}" for name in ("370m", "1.3b", "2.7b") for threads in sorted({1, physical_cores()})]
    parser.add_argument("--series", nargs="+", default=both, help="preset:threads, as in 1.3b:2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "reports")
    options = parser.parse_args()
    named = [series.split(":") for series in options.series]
    options.series = {name: [int(threads) for other, threads in named if other == name] for name, _ in named}
    return options


def versions() -> str:
    """The peers' packages, as they call themselves."""
    code = "import importlib.metadata as m; print(*(p + ' ' + m.version(p) for p in ('llama-cpp-python', 'gguf')))"
    return run_peer(["-c", code]).strip()


def prepare(folder: Path, name: str, left_out: dict[str, str]) -> dict[str, Path]:
    """The same shape for every engine: our packed folder, and a stand-in per peer that does not crash on it."""
    files = {}
    for kind in PEERS:
        path = folder / f"{kind}.gguf"
        run_peer([str(HERE / "standin.py"), str(path), name, kind])
        if end := crash(path):
            left_out[kind] = end
        else:
            files[kind] = path
    write_random(folder / "packed", preset(name))
    return {**files, **{name: folder / "packed" for name, (isa, _) in OURS.items() if usable(isa)}}


def usable(isa: str) -> bool:
    """Whether this machine has the instruction set; the empty name is its best one."""
    return not isa or isa in _native.instruction_sets()


def one_round(files: dict[str, Path], threads: int) -> dict[str, Rates]:
    """Tokens per second of every engine, each in a process of its own."""
    return {
        name: ours(path, threads, *OURS[name]) if name in OURS else peer(path, threads) for name, path in files.items()
    }


def ours(folder: Path, threads: int, isa: str, batch: int) -> Rates:
    """Prefill of one sequence and decode of all, of our engine."""
    request = BenchRequest(threads, PROMPT, NEW, batch, runs=1)
    words = [sys.executable, "-m", "unmul.engine.bench", str(folder), json.dumps(asdict(request))]
    found = json.loads(run(words, {ISA_VARIABLE: isa}))
    return {"prefill": found["prefill_tokens_per_s"], "decode": found["decode_tokens_per_s"]}


def peer(path: Path, threads: int) -> Rates:
    """Prefill and decode of llama.cpp."""
    words = [str(HERE / "llamacpp.py"), str(path), str(threads), str(PROMPT), str(NEW)]
    rates: Rates = json.loads(run_peer(words).splitlines()[-1])
    return rates


def crash(path: Path) -> str:
    """Which signal kills llama.cpp on a short prompt; empty when none does."""
    words = [PEER_PYTHON, str(HERE / "llamacpp.py"), str(path), "1", "16", "1"]
    status = subprocess.run(words, capture_output=True).returncode
    return signal.Signals(-status).name if status < 0 else ""


def run_peer(words: list[str]) -> str:
    """What the peers' Python prints; it knows our shapes from the source tree."""
    return run([PEER_PYTHON, *words], {"PYTHONPATH": str(REPOSITORY / "src")})


def run(words: list[str], environment: dict[str, str]) -> str:
    """What a process prints; stops with its last words where it fails."""
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)}: {done.stderr.strip()[-1000:] or done.returncode}")
    return done.stdout


def summary(rounds: list[dict[str, Rates]]) -> dict[str, Any]:
    """Per engine and phase: median, [least, most], every round, and the median ratio to the yardstick of its round."""
    found: dict[str, Any] = {}
    for name in rounds[0]:
        found[name] = {}
        for phase in PHASES:
            rates = [each[name][phase] for each in rounds]
            ratio = median(each[name][phase] / each[YARDSTICK][phase] for each in rounds)
            spread = [min(rates), max(rates)]
            found[name][phase] = {"median": median(rates), "spread": spread, "rounds": rates, "ratio": ratio}
    return found


def report(document: dict[str, Any]) -> str:
    """The report as Markdown."""
    where = document["machine"]
    lines = [
        f"# CPU decode beside llama.cpp, {where['cpu']}, {document['date']}",
        "",
        f"Commit {document['commit']}; {where['cores']} cores; {where['system']}; Python {where['python']};",
        f"kernels {where['kernels']}; scheduling {where['scheduling']}, load {where['load']} at the start;",
        f"peers: {document['peers']}. Command: `{' '.join(['python', *document['command']])}`.",
        f"Random ternary weights, head included, prompt {PROMPT}, new {NEW}; {document['rounds']} interleaved rounds,",
        "each engine in a fresh process: median [least, most] in tokens/s; x is the median over rounds of the ratio to",
        f"{YARDSTICK}. Decode of a batch is the tokens of all its sequences.",
        *(f"{kind} is left out: llama.cpp ends with {end} on a prompt." for kind, end in document["left_out"].items()),
        "The peers run a Llama-shaped stand-in with the same matrices, so attention and its cache are theirs besides;",
        "they decode from an empty context, where that costs least, ours after the prompt.",
        "",
        "| model | threads | engine | decode | x | prefill | x |",
        "|---|---|---|---|---|---|---|",
    ]
    for series in document["figures"]:
        for name, phases in series["engines"].items():
            cells = [cell for phase in PHASES for cell in phase_cells(phases[phase])]
            lines.append("| " + " | ".join([series["preset"], str(series["threads"]), name, *cells]) + " |")
    return "\n".join(lines) + "\n"


def phase_cells(found: dict[str, Any]) -> list[str]:
    """Rate and ratio."""
    least, most = found["spread"]
    return [f"{found['median']:.1f} [{least:.1f}, {most:.1f}]", f"{found['ratio']:.2f}"]


if __name__ == "__main__":
    main()

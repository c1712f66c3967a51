"""One table and one figure of the energy of a token: what meters counted, and what the accelerator's model estimates.

    python benchmarks/energy/table.py benchmarks/reports/decode_h200_2026-11-24_first.json \\
        benchmarks/reports/decode_h200_2026-11-24.json \\
        benchmarks/reports/cpu_engine_intel-r-xeon-r-processor_2026-11-24.json

Reads reports of benchmarks/decode/gpu.py and engine.py (of the same device, model and number of texts the last counts)
and reckons the boards of `unmul rtl report`. Writes energy_<date>.md beside the reports, and the figure.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmul.config import preset
from unmul.files import atomic_file, write_text
from unmul.gateware.boards import BOARDS
from unmul.gateware.report import report, zero_checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]
PRESETS = ("370m", "1.3b", "2.7b")
COLUMNS = (
    "model", "device", "texts at once", "tokens/s", "metered J a token", "metered, above idle", "estimated J a token",
    "estimated, above idle", "from",
)  # fmt: skip
NONE, NOT_MEASURED = "", "not measured"
NOTES = """
Metered joules are those of the whole device (NVML: GPU and its memory; RAPL: processor packages), not of the machine
around it. Estimated joules are low - middle - high of a model; no board has run, tokens/s are modelled cycles at its
clock ([how](../../docs/rtl.md#report)). The two kinds answer different questions: do not divide one by the other.
"""

Band = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Row:
    """A model on a device. Joules a token: counted by a meter (or why not), or estimates, low, middle, high."""

    model: str
    device: str
    texts: int
    rate: float
    origin: str
    joules: float | None = None
    above_idle: float | None = None
    why: str = ""
    estimate: Band | None = None
    estimate_above_idle: Band | None = None

    def cells(self) -> list[str]:
        """As in COLUMNS."""
        estimates = [
            " - ".join(f"{each:.3g}" for each in band or ()) for band in (self.estimate, self.estimate_above_idle)
        ]
        counted = [NONE if self.estimate else metered(value) for value in (self.joules, self.above_idle)]
        return [self.model, self.device, str(self.texts), f"{self.rate:,.1f}", *counted, *estimates, self.origin]


def main(words: list[str]) -> None:
    """Read, reckon, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, nargs="*")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "reports")
    parser.add_argument("--figure", type=Path, default=REPOSITORY / "docs" / "figures" / "energy.svg")
    options = parser.parse_args(words)
    found = [row for path in options.reports for row in metered_rows(path)]
    rows = list({(row.device, row.model, row.texts): row for row in found}.values())
    rows += [row for name in PRESETS for row in estimated_rows(name)]
    rows.sort(key=lambda row: (PRESETS.index(row.model), row.estimate is not None, row.device, row.texts))
    date = datetime.date.today().isoformat()
    command = shlex.join(["python", "benchmarks/energy/table.py", *words])
    write_text(options.out / f"energy_{date}.md", markdown(rows, date, command))
    draw(rows, options.figure)


def metered_rows(path: Path) -> Iterator[Row]:
    """The rows of a report of decode on a GPU or on a CPU."""
    document = json.loads(path.read_text("utf-8"))
    for model in document.get("models", ()):
        if model["model"] in PRESETS:
            yield from gpu_rows(model, document["machine"]["gpu"], path.name)
    for figures in document.get("figures", ()):
        cpu = f"{document['machine']['cpu']}, threads: {figures['threads']}"
        counted = figures["joules_per_token"], figures.get("joules_per_token_above_idle")
        rate = figures["decode_tokens_per_s"]
        yield Row(figures["preset"], cpu, figures["batch"], rate, path.name, *counted, figures["joules_reason"])


def gpu_rows(model: dict[str, Any], gpu: str, origin: str) -> Iterator[Row]:
    """A row for each number of texts at once."""
    for decode in model["decode"]:
        counted = decode["joules_per_token"]["ours"]
        above = decode.get("joules_above_idle", {}).get("ours")
        numbers = [value if isinstance(value, float) else None for value in (counted, above)]
        why = counted if isinstance(counted, str) else "" if above else "idle power was not measured in this run"
        rate = 1e3 * decode["batch"] / decode["ms"]["ours"]["median"]
        yield Row(model["model"], gpu, decode["batch"], rate, origin, *numbers, why)


def estimated_rows(name: str) -> Iterator[Row]:
    """A row for each board that holds the model and of which something is known."""
    boards = [board for board in BOARDS.values() if board.idle_watts]
    for found in report(zero_checkpoint(preset(name)), boards)["boards"]:
        if energy := found.get("energy"):
            totals = (energy["with_idle_millijoules"], energy["with_memory_millijoules"])
            low_to_high, above = (tuple(value / 1e3 for value in total) for total in totals)
            rate = found["tokens_per_second"]
            origin = f"unmul rtl report {name}"
            yield Row(name, found["board"], 1, rate, origin, estimate=low_to_high, estimate_above_idle=above)


def markdown(rows: list[Row], date: str, command: str) -> str:
    """The report."""
    reasons = sorted({f"- {row.device} ({row.origin}): {row.why}" for row in rows if row.why})
    lines = [f"# Energy of a token, {date}", "", f"    {command}", "", line(COLUMNS), line(["---"] * len(COLUMNS))]
    lines += [line(row.cells()) for row in rows]
    lines += [NOTES, "![joules a token](../../docs/figures/energy.svg)", "", "Not measured, because:", "", *reasons]
    return "\n".join(lines) + "\n"


def draw(rows: list[Row], out: Path) -> None:
    """Each model a panel: a dot is a meter's figure, a bar the band of an estimate."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "unmul", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(PRESETS), sharex=True), PRESETS, strict=True):
            panel(axes, [row for row in rows if row.model == name and (row.joules or row.estimate)])
            axes.set(title=name, xlabel="joules a token")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        with atomic_file(out) as handle:
            figure.savefig(handle, format="svg", metadata={"Date": None})


def panel(axes: Any, rows: list[Row]) -> None:
    """One line a row, the first on top."""
    places = range(len(rows), 0, -1)
    axes.set_yticks(places, [f"{row.device}, {row.texts}" for row in rows])
    axes.set_xscale("log")
    axes.grid(axis="x", alpha=0.2, which="both")
    counted = {place: row.joules for row, place in zip(rows, places, strict=True) if row.joules}
    axes.scatter(list(counted.values()), list(counted), color="#000000", label="metered, the whole GPU")
    for field, colour, label in (
        ("estimate", "#d55e00", "estimated, the whole board"),
        ("estimate_above_idle", "#0072b2", "estimated, above idle"),
    ):
        bands = {place: getattr(row, field) for row, place in zip(rows, places, strict=True) if row.estimate}
        ends = [[mid - low for low, mid, _ in bands.values()], [high - mid for _, mid, high in bands.values()]]
        axes.errorbar(
            [mid for _, mid, _ in bands.values()], list(bands), xerr=ends, fmt="|", color=colour, capsize=3, label=label
        )


def metered(value: float | None) -> str:
    """A meter's figure, or that there is none."""
    return NOT_MEASURED if value is None else f"{value:.3g}"


def line(cells: Any) -> str:
    """A row of Markdown."""
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main(sys.argv[1:])

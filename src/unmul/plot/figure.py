"""Runs as one figure: the training loss on the left, what was measured on the validation text on the right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unmul.errors import DataError, MissingExtraError, UsageError
from unmul.files import atomic_file
from unmul.plot.curves import AXES, BITS, SMOOTHING, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FORMATS", "comparable", "draw"]

FORMATS = {".png": {"Software": None}, ".svg": {"Date": None}}  # and what would differ from one drawing to the next

# Told apart by colour, and without it by dashes, marks and lightness (colours: Okabe and Ito).
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00")
DASHES = ("-", "--", ":", "-.")
MARKS = ("o", "s", "^", "D", "v", "x")

POINTS = 400  # of a curve, at most
Rows = npt.NDArray[np.intp]

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "unmul",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.grid": True,
    "axes.grid.which": "both",
    "grid.alpha": 0.2,
}


def comparable(runs: Sequence[Run]) -> bool:
    """Whether losses a token compare: no two runs have different tokenizers."""
    return len({run.tokenizer for run in runs if run.tokenizer}) <= 1


def draw(runs: Sequence[Run], x: str, out: Path) -> None:
    """Write the curves of runs against x, one of AXES, as PNG or SVG by out's suffix; the file appears whole.

    Raises:
        MissingExtraError: matplotlib is not installed.
        DataError: a run's log is older than the figure that x asks for.
        UsageError: another suffix.
    """
    if out.suffix not in FORMATS:
        raise UsageError(f"--out {out} is neither a PNG nor an SVG", f"give a name that ends in {' or '.join(FORMATS)}")
    for run in runs:
        if x not in run.steps:
            raise DataError(f"the run in {run.folder} has no {x}", "use --x tokens or --x seconds, or train again")
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise MissingExtraError("matplotlib", "plot") from None
    with matplotlib.rc_context(STYLE), atomic_file(out) as handle:
        figure = _figure(runs, x)
        figure.savefig(handle, format=out.suffix[1:], dpi=110, metadata=FORMATS[out.suffix])


def _figure(runs: Sequence[Run], x: str) -> Any:
    from matplotlib.figure import Figure  # drawn without a window: PNG by Agg

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    measured = any(run.validation["step"].size for run in runs)
    loss, *bits = figure.subplots(1, 1 + measured, squeeze=False)[0]
    for k, run in enumerate(runs):
        style = {"color": COLOURS[k % len(COLOURS)], "linestyle": DASHES[k % len(DASHES)], "label": run.name}
        mark = {"marker": MARKS[k % len(MARKS)], "markersize": 4, "linewidth": 0.8}
        ended = x == "bytes"  # the same from the first step to the last: a run is a point
        shown = slice(-1, None) if ended else _shown(len(run.steps["loss"]))
        loss.plot(
            run.steps[x][shown], run.steps["loss"][shown], **({"linewidth": 1.2} | (mark if ended else {})), **style
        )
        for axes in bits:
            seen = slice(-1 if ended else 0, None)
            axes.plot(run.validation[x][seen], run.validation[BITS][seen], **mark, **style)
    _label(loss, x, "training loss, nats a token", runs)
    for axes in bits:
        _label(axes, x, "validation, bits a byte", runs)
    figure.legend(*loss.get_legend_handles_labels(), loc="outside upper center", ncols=min(len(runs), 4))
    figure.supxlabel(_caption(runs), fontsize=8)
    return figure


def _shown(count: int) -> Rows:
    """Rows of a curve that are drawn: evenly spaced on the logarithmic axis, so that a long run is not a large file."""
    return np.unique(np.geomspace(1, count, POINTS).round().astype(np.intp)) - 1


def _label(axes: Axes, x: str, y: str, runs: Sequence[Run]) -> None:
    from matplotlib.ticker import ScalarFormatter

    ends = [run.steps[x][-1] for run in runs]
    begin = min(ends) / 1.5 if x == "bytes" else max(ends) / 100
    axes.set(xlabel=AXES[x], ylabel=y, xscale="log", yscale="log", xlim=(begin, max(ends) * 1.1))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())


def _caption(runs: Sequence[Run]) -> str:
    words = f"Training loss: mean over the last {SMOOTHING:.0%} of a run's steps. Both axes are logarithmic."
    if not comparable(runs):
        words += "\nThe tokenizers differ: losses a token do not compare, bits a byte do."
    return words

"""Tokens a second against joules a token: boards as bars from low to high, published marks as points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from unmul.errors import MissingExtraError, UsageError
from unmul.files import atomic_file
from unmul.gateware.marks import MARKS

__all__ = ["draw"]

BANDS = {
    "with_idle_millijoules": ("#d55e00", "whole board: logic, memory, board at rest"),
    "with_memory_millijoules": ("#0072b2", "logic and memory"),
}


def draw(found: Mapping[str, Any], out: Path) -> None:
    """Write the figure of a report as PNG; it appears whole.

    Raises:
        MissingExtraError: matplotlib is not installed.
        UsageError: another suffix.
    """
    if out.suffix != ".png":
        raise UsageError(f"--out {out} is no PNG", "give a name that ends in .png")
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtraError("matplotlib", "plot") from None
    figure = Figure(figsize=(10, 5), layout="constrained")
    axes = figure.subplots()
    boards = [board for board in found["boards"] if board.get("energy")]
    for key, (colour, label) in BANDS.items():
        _bars(axes, boards, key, colour, label)
    _names(axes, boards)
    _points(axes)
    axes.set(xscale="log", yscale="log", xlabel="tokens a second, one stream", ylabel="joules a token")
    title = (
        f"{found['model']}, {found['parameters']:,} parameters: joules estimated, cycles simulated or (hollow) modelled"
    )
    axes.set_title(f"{title}\nletters: published by others, for the models named", fontsize=9)
    axes.grid(alpha=0.2, which="both")
    figure.legend(fontsize=7, loc="outside right upper")
    with atomic_file(out) as handle:
        figure.savefig(handle, format="png", dpi=110, metadata={"Software": None})


def _bars(axes: Any, boards: list[Mapping[str, Any]], key: str, colour: str, label: str) -> None:
    """A bar for each board; boards whose cycles are modelled get a hollow point."""
    for board in boards:
        low, mid, high = (value / 1000 for value in board["energy"][key])
        face = colour if board["cycles_from"] == "simulated" else "white"
        point = {"fmt": "o", "color": colour, "mfc": face, "capsize": 3, "label": label}
        axes.errorbar(board["tokens_per_second"], mid, yerr=[[mid - low], [high - mid]], **point)
        label = "_nolegend_"


def _names(axes: Any, boards: list[Mapping[str, Any]]) -> None:
    """The boards' names, once, at their upper bars."""
    for board in boards:
        place = (board["tokens_per_second"], board["energy"]["with_idle_millijoules"][1] / 1000)
        axes.annotate(board["board"], place, xytext=(7, 3), textcoords="offset points", fontsize=8)


def _points(axes: Any) -> None:
    """Each mark as a letter that the legend explains."""
    for letter, mark in zip(ascii_uppercase, MARKS, strict=False):
        place = ([mark.tokens_per_second], [mark.millijoules / 1000])
        axes.scatter(*place, marker=f"${letter}$", s=45, color="#000000", label=f"{mark.system}: {mark.model}")

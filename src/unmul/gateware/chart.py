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
    _points(axes)
    axes.set(xscale="log", yscale="log", xlabel="tokens a second, one stream", ylabel="joules a token")
    title = f"{found['model']}, {found['parameters']:,} parameters: bars estimated, letters published by others"
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.2, which="both")
    figure.legend(fontsize=7, loc="outside right upper")
    with atomic_file(out) as handle:
        figure.savefig(handle, format="png", dpi=110, metadata={"Software": None})


def _bars(axes: Any, boards: list[Mapping[str, Any]], key: str, colour: str, label: str) -> None:
    rates = [board["tokens_per_second"] for board in boards]
    bands = [[value / 1000 for value in board["energy"][key]] for board in boards]
    middle = [mid for _low, mid, _high in bands]
    spread = [[mid - low for low, mid, _high in bands], [high - mid for _low, mid, high in bands]]
    axes.errorbar(rates, middle, yerr=spread, fmt="o", color=colour, capsize=3, label=label)
    for board, rate, mid in zip(boards, rates, middle, strict=True):
        axes.annotate(
            f"{board['board']}, {board['cycles_from']}",
            (rate, mid),
            xytext=(5, 3),
            textcoords="offset points",
            fontsize=7,
            color=colour,
        )


def _points(axes: Any) -> None:
    """Each mark as a letter that the legend explains."""
    for letter, mark in zip(ascii_uppercase, MARKS, strict=False):
        place = ([mark.tokens_per_second], [mark.millijoules / 1000])
        axes.scatter(*place, marker=f"${letter}$", s=45, color="#000000", label=f"{mark.system}: {mark.model}")

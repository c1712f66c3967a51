"""unmul plot: the loss curves of runs as a figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unmul.cli.output import emit, note, rows

if TYPE_CHECKING:
    from unmul.plot import Run

__all__ = ["plot"]

BITS = "validation_bits_per_byte"


def plot(
    run: list[Path],
    /,
    *,
    x: Literal["tokens", "flops", "seconds", "joules", "bytes"] = "tokens",
    out: Path = Path("loss.png"),
    json: bool = False,
) -> None:
    """Draw the training loss and the validation of runs against tokens, FLOPs, seconds, joules or bytes of weights.

    Args:
        run: folders that `unmul train` wrote; several are drawn together.
        x: what the losses are drawn against.
        out: the figure, .png or .svg.
        json: write one JSON document with where the runs stand.
    """
    from unmul.plot import comparable, draw, name_apart, read_run

    found = name_apart([read_run(folder) for folder in run])
    draw(found, x, out)
    if not comparable(found):
        note("the tokenizers differ: losses a token do not compare, bits a byte do")
    if json:
        emit(
            {"figure": str(out), "x": x, "losses_compare": comparable(found), "runs": [_standing(one) for one in found]}
        )
        return
    print(rows([(one.name, _words(_standing(one))) for one in found]))
    print(f"drawn in {out}")


def _standing(run: Run) -> dict[str, Any]:
    """Where a run has got to; null for what its log does not say."""
    last = {name: float(column[-1]) for name, column in run.steps.items()}
    bits = run.validation[BITS]
    return {
        "name": run.name,
        "folder": str(run.folder),
        "steps": int(last["step"]),
        "tokens": int(last["tokens"]),
        "flops": last.get("flops"),
        "seconds": last["seconds"],
        "joules": last.get("joules"),
        "loss": last["loss"],
        BITS: float(bits[-1]) if bits.size else None,
    }


def _words(standing: Mapping[str, Any]) -> str:
    measured = f", {standing[BITS]:.4f} bits a byte" if standing[BITS] is not None else ""
    return f"{standing['steps']} steps, {standing['tokens']:,} tokens, loss {standing['loss']:.3f}{measured}"

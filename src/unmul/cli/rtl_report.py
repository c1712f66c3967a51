"""unmul rtl report: what an accelerator would give, board by board, beside what others published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unmul.cli.output import columns, emit, note

__all__ = ["report"]


def report(
    model: str,
    /,
    *,
    board: list[str] | None = None,
    lanes: int | None = None,
    simulate: bool = False,
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Estimate tokens a second and joules a token of a model on boards; nothing ran on a board.

    Cycles are modelled, or with --simulate those of the core's own Verilog, as far as cores are not too wide for it.

    Args:
        model: folder of a packed model, or a preset: 370m, 1.3b, 2.7b.
        board: ulx3s-85f, ecpix5-85f, kv260 or u280; repeat it for several; all of them when left out.
        lanes: ternary products a cycle; as many as each board's memory feeds when left out.
        simulate: take cycles from the Verilog, compiled by Verilator (minutes a board, once), checked against the twin.
        out: also draw tokens a second against joules a token, as PNG.
        json: write one JSON document instead of text.
    """
    from unmul.gateware import boards
    from unmul.gateware import report as reports

    chosen = [boards.board(name) for name in board or [name for name in boards.BOARDS if name != "sim"]]
    if simulate:
        note(
            f"compiling cores of up to {reports.SIMULATED_LANES} lanes (minutes each, once for each set of parameters)"
        )
    found = reports.report(reports.open_shape(model, filled=simulate), chosen, lanes, simulate=simulate)
    if out:
        from unmul.gateware.chart import draw

        draw(found, out)
    if json:
        emit(found)
        return
    print("\n\n".join(_sections(found)))


def _sections(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{found['model']}: {found['parameters']:,} parameters, {found['ternary_weights']:,} of them ternary"
    held = [each for each in found["boards"] if "refused" not in each]
    if held:
        yield _speed(held)
    for each in found["boards"]:
        if "refused" in each:
            yield f"{each['board']}: {each['refused']}"
        elif each["energy"]:
            yield _energy(each)
    yield _marks(found)
    yield _blocks(found)


def _speed(boards: list[Mapping[str, Any]]) -> str:
    head = (
        "board",
        "lanes",
        "MHz",
        "clock",
        "cycles a token",
        "are",
        "bound by",
        "tokens/s",
        "prefill",
        "of byte bound",
    )
    return columns(
        [("Speed (memory at its peak)",), head]
        + [
            (
                each["board"],
                f"{each['parameters']['lanes']}",
                f"{each['parameters']['clock_mhz']:g}",
                each["clock"],
                f"{each['cycles']:,}",
                _origin(each["cycles_from"], each["cycles"], each["modelled"]["decode"]["cycles"]),
                each["modelled"]["decode"]["bound"],
                f"{each['tokens_per_second']:,.1f}",
                f"{each['prefill_tokens_per_second']:,.1f}",
                f"{each['tokens_per_second'] / each['byte_bound_tokens_per_second']:.0%}",
            )
            for each in boards
        ]
    )


def _origin(origin: str, cycles: int, modelled: int) -> str:
    """How cycles were obtained, and how far the model is from simulated ones."""
    return f"simulated (model {modelled / cycles - 1:+.2%})" if origin == "simulated" else origin


def _energy(board: Mapping[str, Any]) -> str:
    energy = board["energy"]
    lines = [
        (
            f"  {line['component']}",
            f"{line['events']:,}",
            _band(line["picojoules"]),
            _band(line["millijoules"]),
            line["source"],
        )
        for line in energy["lines"]
    ]
    totals = [
        (name, "", "", _band(energy[key]), source)
        for name, key, source in (
            ("logic", "logic_millijoules", ""),
            ("+ memory", "with_memory_millijoules", ""),
            ("+ board at rest", "with_idle_millijoules", board["sources"]),
        )
    ]
    head = ("  component", "events a token", "pJ each", "mJ a token", "source")
    title = f"Energy on {board['board']}, low-mid-high, estimated, at {board['tokens_per_second']:,.1f} tokens/s"
    return columns([(title,), head, *lines, *totals])


def _marks(found: Mapping[str, Any]) -> str:
    head = ("system", "model", "tokens/s", "mJ a token", "obtained")
    lines = [
        (mark["system"], mark["model"], f"{mark['tokens_per_second']:,g}", f"{mark['millijoules']:g}", mark["obtained"])
        for mark in found["marks"]
    ]
    return columns([("Published by others",), head, *lines])


def _blocks(found: Mapping[str, Any]) -> str:
    head = ("port, bits", "lanes", "our cycles", "are", "ours, ms", "the paper's, ms", "theirs was obtained")
    lines = [
        (
            f"{8 * block['port_bytes']}",
            f"{block['lanes']}",
            f"{block['cycles']:,}",
            _origin(block["cycles_from"], block["cycles"], block["modelled_cycles"]),
            f"{block['our_milliseconds']:.2f}",
            f"{block['milliseconds']:g}",
            block["obtained"],
        )
        for block in found["paper_block"]
    ]
    return columns([("One block of width 512 at 60 MHz (ours whole)",), head, *lines])


def _band(values: list[float]) -> str:
    return " - ".join(f"{value:.3g}" for value in values)

"""unmul rtl bitstream: a board's configuration for a build."""

from __future__ import annotations

from pathlib import Path

from unmul.cli.output import emit, note, rows

__all__ = ["bitstream"]


def bitstream(build: Path, /, *, out: Path, clock: float | None = None, seed: int = 1, json: bool = False) -> None:
    """Write the bitstream of a build for its board: core, memory controller, serial line. It has not run on a board.

    The weights are not in it: a host sends them (see docs/rtl.md).

    Args:
        build: folder that unmul rtl build has written, for ulx3s-85f or ecpix5-85f.
        out: folder that is written; an older bitstream there is replaced.
        clock: MHz of the core and of the memory's controller; the build's own when left out.
        seed: of place and route.
        json: write one JSON document, the report, instead of text.
    """
    from dataclasses import replace

    from unmul.gateware.bitstream import write_bitstream
    from unmul.gateware.build import read_build

    parameters = read_build(build).parameters
    if clock is not None:
        parameters = replace(parameters, clock_mhz=clock)
    note("synthesis and place and route take minutes")
    found = write_bitstream(parameters, out, seed)
    if json:
        emit(found)
        return
    met = "met" if found["meets_clock"] else "NOT met: choose a lower --clock, or another --seed"
    lines = [(name.replace("_", " "), f"{found[name]:,}") for name in ("luts", "flip_flops", "block_rams")]
    lines.append(("clock", f"{found['parameters']['clock_mhz']:g} MHz, {found['reached_clock_mhz']:g} reached: {met}"))
    print(rows([*lines, ("serial line", f"{found['baud']:,} baud"), ("written", str(out))]))

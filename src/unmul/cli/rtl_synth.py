"""unmul rtl synth: what the core takes of a device, and the clock that it reaches."""

from __future__ import annotations

from typing import Literal

from unmul.cli.output import emit, note, rows

__all__ = ["synth"]


def synth(
    *,
    board: Literal["ulx3s-85f", "ecpix5-85f", "kv260", "u280"] = "ulx3s-85f",
    lanes: int | None = None,
    seeds: int = 5,
    json: bool = False,
) -> None:
    """Count the cells of the core with yosys; for ECP5 also place and route it with nextpnr, once a seed.

    The core stands behind shift registers, without a memory controller. Nothing ran on a board.

    Args:
        board: kv260 and u280 get counts alone: no open place and route exists for them.
        lanes: ternary products a cycle; as many as the board's memory feeds when left out.
        seeds: how many seeds are tried; the worst clock is the one to claim.
        json: write one JSON document instead of text.
    """
    from unmul.gateware import boards
    from unmul.gateware.flow import synthesis_report
    from unmul.gateware.parameters import Parameters

    chosen = boards.board(board)
    parameters = Parameters(
        lanes=lanes or chosen.lanes, port_bytes=chosen.port_bytes, clock_mhz=chosen.clock_mhz, board=board
    )
    note("synthesis and place and route take minutes")
    found = synthesis_report(parameters, range(1, seeds + 1))
    if json:
        emit(found)
        return
    clocks = ", ".join(f"{clock:g}" for clock in found["clock_mhz_by_seed"].values())
    lines = [
        (name.replace("_", " "), f"{found[name]:,}") for name in ("luts", "flip_flops", "block_rams", "multipliers")
    ]
    lines.append(("MHz by seed", clocks or "none: no open place and route for this device"))
    print(rows([("board", board), ("lanes", str(found["lanes"])), *lines]))

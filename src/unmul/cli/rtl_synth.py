"""unmul rtl synth: what the core takes of a device, and the clock that it reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from unmul.cli.output import emit, note, rows

if TYPE_CHECKING:
    from unmul.gateware.boards import Board
    from unmul.gateware.parameters import Parameters

__all__ = ["synth"]

NUMBERS = ("lanes", "vector_depth", "state_depth", "luts", "flip_flops", "block_rams", "multipliers")


def synth(
    model: str | None = None,
    /,
    *,
    board: Literal["ulx3s-85f", "ecpix5-85f", "kv260", "u280"] = "ulx3s-85f",
    lanes: int | None = None,
    seeds: int = 5,
    json: bool = False,
) -> None:
    """Count the cells of the core with yosys; for ECP5 also place and route it with nextpnr, once a seed.

    The core stands behind shift registers, without a memory controller. Nothing ran on a board.

    Args:
        model: folder of a packed model, or a preset: 370m, 1.3b, 2.7b; the core holds it. Without it, registers and
            state have the sizes that the model that comes with unmul needs.
        board: kv260 and u280 get counts alone: no open place and route exists for them.
        lanes: ternary products a cycle; as many as the board's memory feeds when left out.
        seeds: how many seeds are tried; the worst clock is the one to claim.
        json: write one JSON document instead of text.
    """
    from unmul.gateware import boards
    from unmul.gateware.flow import synthesis_report

    parameters = _parameters(model, boards.board(board), lanes)
    note("synthesis and place and route take minutes")
    found = synthesis_report(parameters, range(1, seeds + 1))
    if json:
        emit(found)
        return
    clocks = ", ".join(f"{clock:g}" for clock in found["clock_mhz_by_seed"].values())
    lines = [(name.replace("_", " "), f"{found[name]:,}") for name in NUMBERS]
    lines.append(("MHz by seed", clocks or "none: no open place and route for this device"))
    print(rows([("board", board), *lines]))


def _parameters(model: str | None, board: Board, lanes: int | None) -> Parameters:
    from unmul.gateware.fit import choose_parameters
    from unmul.gateware.parameters import Parameters
    from unmul.gateware.report import open_shape

    if model:
        return choose_parameters(open_shape(model).config, board, lanes)
    return Parameters(
        lanes=lanes or board.lanes, port_bytes=board.port_bytes, clock_mhz=board.clock_mhz, board=board.name
    )

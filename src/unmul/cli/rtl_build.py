"""unmul rtl build: a packed model for an accelerator on a board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unmul.cli.output import emit, megabytes, note, rows
from unmul.errors import MissingExtraError

if TYPE_CHECKING:
    from unmul.gateware.parameters import Parameters

__all__ = ["build"]


def build(model: Path, /, *, board: str = "sim", lanes: int | None = None, out: Path, json: bool = False) -> None:
    """Write program, listing, weight image, manifest and the core's Verilog, of a packed model for a board.

    Args:
        model: folder of a packed model.
        board: sim, ulx3s-85f, ecpix5-85f, kv260 or u280; what does not fit it is refused.
        lanes: ternary products a cycle; as many as the board's memory feeds when left out.
        out: folder that is written; an older build there is replaced.
        json: write one JSON document, the manifest, instead of text.
    """
    from unmul.checkpoint import PackedCheckpoint
    from unmul.gateware import boards
    from unmul.gateware.build import manifest, write_build
    from unmul.gateware.compile import compile_model
    from unmul.gateware.fit import choose_parameters

    packed = PackedCheckpoint.open(model)
    compiled = compile_model(packed, choose_parameters(packed.config, boards.board(board), lanes))
    write_build(compiled, out, _verilog(compiled.parameters))
    if json:
        emit(manifest(compiled))
        return
    parameters = compiled.parameters
    lines = [
        ("board", f"{parameters.board}, port of {parameters.port_bytes} bytes"),
        ("lanes", f"{parameters.lanes}, a beat of {parameters.beat_bytes} bytes"),
        ("registers", f"{parameters.vector_depth} elements, state {parameters.state_depth} values"),
        ("program", f"{len(compiled.program)} instructions"),
        ("weights", megabytes(compiled.image.size)),
        ("written", str(out)),
    ]
    print(rows(lines))


def _verilog(parameters: Parameters) -> str | None:
    from unmul.gateware.verilog import core_verilog

    try:
        return core_verilog(parameters)
    except MissingExtraError as missing:
        note(f"written without core.v: {missing}")
        return None

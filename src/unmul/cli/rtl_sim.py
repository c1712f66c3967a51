"""unmul rtl sim: text out of the accelerator's own Verilog."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from unmul.cli.output import emit, note, rows
from unmul.cli.usage import check_count
from unmul.errors import UsageError

if TYPE_CHECKING:
    from unmul.gateware.boards import Board
    from unmul.gateware.sim.check import CheckedEngine
    from unmul.runtime import Model

__all__ = ["sim"]


def sim(
    model: Path | None = None,
    /,
    *,
    prompt: Annotated[str, Parameter(name=("--prompt", "-p"))],
    new: Annotated[int, Parameter(name=("--new", "-n"))] = 16,
    board: str = "sim",
    lanes: int | None = None,
    json: bool = False,
) -> None:
    """Write text with the accelerator: its Verilog, compiled by Verilator, behind a model of the board's memory.

    Every token also runs on the twin, and the text on the CPU engine; the result says whether they agree.

    Args:
        model: folder of a packed model; without it, the smaller one that comes with unmul.
        prompt: the text to go on from.
        new: most tokens to write; always the likeliest one.
        board: sim, ulx3s-85f, ecpix5-85f, kv260 or u280: width, bandwidth and latency of its memory.
        lanes: ternary products a cycle; as many as the board's memory feeds when left out.
        json: write one JSON document instead of text.
    """
    from unmul.gateware import boards
    from unmul.runtime import Model, tiny_model

    if not prompt:
        raise UsageError("the prompt is empty", "give some text to go on from: -p TEXT")
    check_count("-n", new)
    folder, chosen = model or tiny_model(), boards.board(board)
    note("compiling the core (about a minute, once for each set of parameters)")
    engine = _engine(folder, chosen, lanes)
    simulated = Model(folder, engine)
    text = _write(simulated, prompt, new, quiet=json)
    found = {"text": text, **_compared(simulated, folder, prompt, new), **engine.figures()}
    found["tokens_per_second"] = round(chosen.clock_mhz * 1e6 / max(1, found["cycles_per_token"]), 2)
    found |= {"board": board, "clock_mhz": chosen.clock_mhz, "backend": engine.backend}
    if json:
        emit(found)
    else:
        note(_summary(found))


def _engine(folder: Path, board: Board, lanes: int | None) -> CheckedEngine:
    from unmul.checkpoint import PackedCheckpoint
    from unmul.gateware.compile import compile_model
    from unmul.gateware.fit import choose_parameters
    from unmul.gateware.sim.check import CheckedEngine

    packed = PackedCheckpoint.open(folder)
    return CheckedEngine(compile_model(packed, choose_parameters(packed.config, board, lanes)), board)


def _write(model: Model, prompt: str, new: int, *, quiet: bool) -> str:
    """Generate, piece by piece on stdout unless quiet; the whole text."""
    from unmul.engine.sampler import SamplingParams

    pieces = []
    for piece in model.generate(prompt, max_new_tokens=new, sampling=SamplingParams(temperature=0)):
        pieces.append(piece)
        if not quiet:
            print(piece, end="", flush=True)
    if not quiet:
        print(flush=True)
    return "".join(pieces)


def _compared(simulated: Model, folder: Path, prompt: str, new: int) -> dict[str, Any]:
    """The tokens, and where the CPU engine's greedy ones part from them, if they do."""
    from unmul.runtime import load

    reference = load(folder, threads=1)
    _write(reference, prompt, new, quiet=True)
    tokens, expected = simulated.last.new_ids, reference.last.new_ids
    parts = next((at for at, pair in enumerate(zip(tokens, expected, strict=False)) if pair[0] != pair[1]), None)
    divergence = None
    if parts is not None:
        logits = reference.logits([*simulated.last.prompt_ids, *tokens[:parts]])[-1]
        margin = float(logits[expected[parts]] - logits[tokens[parts]])
        divergence = {"at": parts, "token": tokens[parts], "engine": expected[parts], "logit_margin": margin}
    return {"tokens": tokens, "same_tokens_as_engine": tokens == expected, "divergence": divergence}


def _summary(found: Mapping[str, Any]) -> str:
    parted = found["divergence"]
    agrees = "yes" if not parted else f"no, from token {parted['at']} on (margin {parted['logit_margin']:.4f})"
    stalls, busy = found["stalls"], found["busy"]
    lines = [
        ("equal to the twin", "to the bit" if found["bit_exact"] else "NO"),
        ("text of the CPU engine", agrees),
        ("cycles a token", f"{found['cycles_per_token']:,}, bound by {found['bound']} at {found['bound_cycles']:,}"),
        ("tokens/s", f"{found['tokens_per_second']:,} at {found['clock_mhz']:g} MHz (simulated cycles)"),
        ("busy", ", ".join(f"{unit} {share:.0%}" for unit, share in busy.items())),
        ("cycles without", ", ".join(f"{name} {count:,}" for name, count in stalls.items())),
    ]
    return rows(lines)

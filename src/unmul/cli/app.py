"""The command line's frame: verbs by name, one line for a user's error, quiet ends.

A verb is one typed function in its own module, imported only when it runs: `unmul.cli.pack.pack`. Positional-only
parameters are its arguments, keyword-only ones its flags, its docstring is its help, `json: bool = False` comes last.
It returns None: results go to stdout (text, or output.emit with --json), all else to stderr (output.note). It raises
UnmulError or OSError for what the user can mend, and lets KeyboardInterrupt through.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Collection, Sequence
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from unmul import __version__
from unmul.cli.output import note
from unmul.cli.rtl import RTL_VERBS
from unmul.cli.usage import explain
from unmul.errors import UnmulError

__all__ = ["VERBS", "app", "main"]

VERBS = {
    "run": "Write text with a packed model: the embedded one, or MODEL.",
    "train": "Train a model from a recipe and text files.",
    "plot": "Draw the loss curves of training runs.",
    "eval": "Measure how well a model predicts texts, or does on tasks.",
    "pack": "Pack a trained folder at 1.6 bits a ternary weight.",
    "serve": "Serve a model: OpenAI's routes, and a page.",
    "bench": "Measure the speed of a model on this machine.",
    "rtl": "Put a model on an accelerator: build it, simulate it, synthesise it.",
    "info": "Show what a checkpoint folder or a preset holds.",
    "doctor": "Check what this machine offers, and how to get what is missing.",
}

BUG, USER_ERROR, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141

app = App(
    name="unmul",
    help="The complete open stack for MatMul-free language models.",
    version=__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.meta.suppress_keyboard_interrupt = False
for _rank, (_verb, _purpose) in enumerate(VERBS.items()):
    app.command(f"unmul.cli.{_verb}:{_verb}", name=_verb, help=_purpose, sort_key=_rank)


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    debug: Annotated[bool, Parameter(help="Show the traceback of an error.", show_default=False)] = False,
) -> None:
    app(tokens, exit_on_error=False, print_error=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns 0, 2 for a user's error, 1 for ours, 130 after Ctrl-C, 141 for a closed pipe."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character must not end the text
    try:
        app.meta(tokens, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in tokens:
            traceback.print_exc()
        return _report(error)
    return 0


def _report(error: BaseException) -> int:
    """Say in one line what went wrong; returns the exit status."""
    if isinstance(error, KeyboardInterrupt):
        note("")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it ends
        return BROKEN_PIPE
    if isinstance(error, CycloptsError | UnmulError | OSError | MemoryError):
        note("error: " + " ".join(_sentence(error).split()))
        return USER_ERROR
    note(f"internal error: {type(error).__name__}: {error} (please report it with the output of --debug)")
    return BUG


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return f"not enough memory {error}"
    return explain(error, _verbs(error)) if isinstance(error, CycloptsError) else str(error)


def _verbs(error: CycloptsError) -> Collection[str]:
    """The verbs among which the user chose: the frame's, or those of `unmul rtl`."""
    return RTL_VERBS if list(error.command_chain or ())[:1] == ["rtl"] else VERBS

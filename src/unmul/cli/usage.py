"""What is wrong with a command line, in one line that names the nearest right word."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from cyclopts import CycloptsError, MissingArgumentError, UnknownCommandError, UnusedCliTokensError

__all__ = ["explain"]


def explain(error: CycloptsError, verbs: Collection[str]) -> str:
    """The library's finding in our words, and where to read on."""
    error.verbose = False
    page = " ".join(("unmul", *(error.command_chain or ()), "--help"))
    return f"{_problem(error, verbs).rstrip('.')} (see {page})"


def _problem(error: CycloptsError, verbs: Collection[str]) -> str:
    if isinstance(error, UnknownCommandError) and error.unused_tokens:
        # Our own words, for the library imports every verb to say which there are.
        return f"unknown verb {error.unused_tokens[0]!r}. {_nearest(error.unused_tokens[0], verbs)}"
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"unexpected argument {error.unused_tokens[0]!r}"
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        problem = str(error).partition(" parameter ")[2]
        return (
            problem if error.keyword or error.argument.tokens else problem.replace("requires an argument", "is missing")
        )
    return str(error)


def _nearest(word: str, verbs: Collection[str]) -> str:
    close = difflib.get_close_matches(word, [*verbs, "--help", "--version"], 1)
    return f"Did you mean {close[0]!r}?" if close else f"Choose one of {', '.join(verbs)}"

"""What is wrong with a command line, in one line that names the nearest right word."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from cyclopts import CycloptsError, MissingArgumentError, UnknownCommandError, UnusedCliTokensError

from unmul.errors import UsageError

__all__ = ["check_count", "explain"]


def check_count(flag: str, value: int) -> None:
    """Refuse a count below 1 by the name that the user gave it."""
    if value < 1:
        raise UsageError(f"{flag} {value} is not a count", "choose 1 or more")


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

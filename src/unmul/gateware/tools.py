"""How the tools of the gateware are called: in a folder of their own, their last line of complaint as our error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from unmul.errors import GatewareError, MissingExtraError

__all__ = ["package_folder", "run_tool", "run_yowasp"]

_INSTALL = "see CONTRIBUTING.md for what must be installed"


def run_tool(
    command: Sequence[str],
    folder: Path,
    *,
    name: str | None = None,
    remedy: str = _INSTALL,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What a tool, run in a folder with what is added to the environment, writes; name and remedy are for its error.

    Raises:
        GatewareError: it cannot be run, or fails.
    """
    added = {**os.environ, **(environment or {})}
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=added)
    except OSError as error:
        raise GatewareError(f"{command[0]} cannot be run ({error.strerror})", "install it, or set CXX") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise GatewareError(f"{name or Path(command[0]).name} failed: {last}", remedy)
    return done.stdout


def run_yowasp(package: str, function: str, arguments: Sequence[str], folder: Path, *, remedy: str = _INSTALL) -> None:
    """Run a tool of the YoWASP packages in a folder; their WebAssembly sees no other.

    Raises:
        GatewareError: it fails.
        MissingExtraError: it is not installed.
    """
    package_folder(package)
    call = f"import sys, {package}; sys.exit({package}.{function}(sys.argv[1:]))"
    run_tool([sys.executable, "-c", call, *arguments], folder, name=package, remedy=remedy)


def package_folder(package: str) -> Path:
    """Where a package of the extra `rtl` is installed.

    Raises:
        MissingExtraError: it is not.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtraError(package.replace("_", "-"), "rtl")
    return Path(spec.origin).parent

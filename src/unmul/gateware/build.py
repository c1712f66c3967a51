"""A build on disk: program, its listing, weight image, and the manifest that everything else reads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from unmul import __version__
from unmul.checkpoint.folder import read_json
from unmul.config import ModelConfig
from unmul.errors import GatewareError
from unmul.files import atomic_folder, write_text
from unmul.gateware.compile import Compiled
from unmul.gateware.isa import disassemble, read_program, write_program
from unmul.gateware.parameters import Parameters

__all__ = ["MANIFEST", "check_target", "manifest", "read_build", "write_build"]

FORMAT_VERSION = 1
MANIFEST, VERILOG = "manifest.json", "core.v"
PROGRAM, LISTING, IMAGE = "program.bin", "program.lst", "weights.bin"
_REBUILD = "unmul rtl build MODEL again"


def manifest(compiled: Compiled) -> dict[str, Any]:
    """What a build is: parameters, model, and the files with their checksums."""
    program = write_program(compiled.program)
    return {
        "format": FORMAT_VERSION,
        "unmul": __version__,
        "parameters": compiled.parameters.to_dict(),
        "model": compiled.config.to_dict(),
        "residual_bits": compiled.residual_bits,
        "program": {"file": PROGRAM, "instructions": len(compiled.program), "sha256": _sha256(program)},
        "image": {
            "file": IMAGE,
            "bytes": compiled.image.size,
            "sha256": _sha256(compiled.image),
            "regions": {name: {"word": start, "words": words} for name, (start, words) in compiled.regions.items()},
        },
    }


def write_build(compiled: Compiled, target: Path, verilog: str | None = None) -> None:
    """Write a build, with the core's Verilog if given, as a folder that appears whole.

    Only an empty folder or an older build is replaced.

    Raises:
        GatewareError: something else is there.
    """
    check_target(target, MANIFEST)
    with atomic_folder(target) as folder:
        (folder / PROGRAM).write_bytes(write_program(compiled.program))
        write_text(folder / LISTING, disassemble(compiled.program))
        compiled.image.tofile(folder / IMAGE)
        if verilog is not None:
            write_text(folder / VERILOG, verilog)
        write_text(folder / MANIFEST, json.dumps(manifest(compiled), indent=2) + "\n")


def check_target(target: Path, marker: str) -> None:
    """Refuse a target that holds anything but a folder with the file `marker`, which an older run has written.

    Raises:
        GatewareError: it does.
    """
    if target.exists() and not (target / marker).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise GatewareError(f"{target} is there and holds no {marker}", "choose another --out, or move it away")


def read_build(folder: Path) -> Compiled:
    """Read a build; the weight image stays mapped on disk.

    Raises:
        GatewareError: it is of another version, or a file is not the one that the manifest names.
    """
    found = read_json(folder / MANIFEST)
    if found.get("format") != FORMAT_VERSION:
        raise GatewareError(f"{folder}: build format {found.get('format')!r}", _REBUILD)
    program, image = (np.memmap(folder / found[part]["file"], np.uint8, "r") for part in ("program", "image"))
    for part, content in (("program", program), ("image", image)):
        if _sha256(content) != found[part]["sha256"]:
            raise GatewareError(f"{folder / found[part]['file']} is damaged", _REBUILD)
    return Compiled(
        parameters=Parameters.from_dict(found["parameters"]),
        config=ModelConfig.from_dict(found["model"]),
        program=read_program(program.tobytes()),
        image=image,
        residual_bits=found["residual_bits"],
        regions={name: (each["word"], each["words"]) for name, each in found["image"]["regions"].items()},
    )


def _sha256(content: Any) -> str:
    return hashlib.sha256(content).hexdigest()

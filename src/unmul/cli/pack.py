"""unmul pack: from a trained folder to the one that runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Literal

from unmul.cli.output import emit, megabytes, note, rows

__all__ = ["pack"]


def pack(
    latent: Path,
    packed: Path,
    /,
    *,
    embeddings: Literal["int8", "bf16"] = "int8",
    json: bool = False,
) -> None:
    """Pack a trained (latent) folder at 1.6 bits a ternary weight; the tokenizer goes with it.

    Args:
        latent: folder in the published layout, as training writes it.
        packed: folder to write; an older checkpoint there is replaced, anything else is left alone.
        embeddings: how to store the token embeddings: int8 with a scale per row, or bf16.
        json: write one JSON document instead of text.
    """
    from unmul.checkpoint import pack as pack_folder

    report = pack_folder(latent, packed, embeddings=embeddings)
    if json:
        emit(asdict(report))
        return
    print(
        rows(
            (
                ("before", megabytes(report.bytes_before)),
                (
                    "after",
                    f"{megabytes(report.bytes_after)} ({report.bytes_before / report.bytes_after:.1f} x smaller)",
                ),
                ("ternary weights", f"{report.bits_per_weight:.3f} bits each"),
            )
        )
    )
    note(f'next: unmul run {packed} -p "Once upon a time"')

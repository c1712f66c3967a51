"""What others published about ternary and MatMul-free models on hardware, each with how it was obtained.

Sources: arXiv 2406.02528 (the paper), 2502.16473 (TerEffic), 2504.16266 and 2510.15926 (TeLLMe), 2503.18002 (Loihi 2),
and github.com/MerlijnW70/bitnet-kv260.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MARKS", "PAPER_BLOCK", "Mark", "PaperBlock"]


@dataclass(frozen=True, slots=True)
class Mark:
    """A published rate and energy. obtained: how, in their words or ours."""

    system: str
    model: str
    tokens_per_second: float
    millijoules: float
    obtained: str


@dataclass(frozen=True, slots=True)
class PaperBlock:
    """The paper's one block: width 512, 60 MHz."""

    port_bytes: int
    milliseconds: float
    obtained: str


_SECOND_HAND = "second-hand, not read again by us: "

MARKS = [
    Mark("TerEffic, on chip", "MatMul-free 370M", 16_300, 2.2, "its abstract's 455 tokens/s/W, several FPGAs"),
    Mark("TerEffic, HBM", "MatMul-free 2.7B", 727, 62, "its abstract's 46 W"),
    Mark("bitnet-kv260", "BitNet 2B", 16.78, 381, "metered at the board; 147 mJ above rest"),
    Mark("TeLLMe", "BitNet 0.73B", 9, 780, "its abstract's 7 W"),
    Mark("TeLLMe v2", "BitNet 0.73B", 25, 200, "its abstract's 5 W"),
    Mark("Loihi 2, many chips", "MatMul-free 370M", 41.5, 405, _SECOND_HAND + "measured by its makers"),
    Mark("the paper, D5005", "MatMul-free 370M", 62, 210, _SECOND_HAND + "projected from one block and a wider port"),
]

PAPER_BLOCK = [
    PaperBlock(1, 43, "timed at 60 MHz, without output projection, GLU and head; no output was checked"),
    PaperBlock(64, 0.67, "projected: 43 ms / 64"),
]

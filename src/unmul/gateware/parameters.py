"""What the accelerator is built for: one frozen dataclass, and every number that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from unmul.errors import GatewareError
from unmul.ternary import TRITS_PER_BYTE

__all__ = ["QUANTISED_REGISTERS", "SCALAR_REGISTERS", "VECTOR_REGISTERS", "Parameters"]

VECTOR_REGISTERS = 8  # int32, one element a cycle
QUANTISED_REGISTERS = 4  # int8, one beat a cycle, each with a scale
SCALAR_REGISTERS = 8  # small floats
HEADER_BYTES = 4  # of a scalar in the stream: a beat must hold one

# Lower and upper bound of every count; the upper ones are what the instruction word can address.
BOUNDS = {
    "lanes": (16, 4096),
    "vector_depth": (16, 2**16 - 1),
    "state_depth": (16, 2**20),
    "port_bytes": (1, 512),
    "buffer_words": (4, 2**16),
    "program_depth": (16, 2**10),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """Parameters of one accelerator: gateware, compiler, twin and reports read nothing else."""

    lanes: int = 64  # ternary products a cycle
    vector_depth: int = 512  # elements of a vector register, and of a quantised one
    state_depth: int = 1024  # state values on the chip, L * E
    port_bytes: int = 8  # width of the memory port
    buffer_words: int = 2048  # port words that the stream may be ahead of the units
    program_depth: int = 64  # instructions
    clock_mhz: float = 100.0  # what cycles are turned into seconds with; a claim only after place and route
    board: str = "sim"

    def __post_init__(self) -> None:
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise GatewareError(f"{name} {value!r} cannot be built", f"choose {low} to {high}")
        if not self.clock_mhz > 0:
            raise GatewareError(f"clock_mhz {self.clock_mhz!r} is not a frequency", "choose a number above 0")

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Parameters:
        """Read the "parameters" of a manifest; unknown keys are refused by name."""
        unknown = sorted(set(raw) - {field.name for field in fields(cls)})
        if unknown:
            raise GatewareError(f"unknown parameter {unknown[0]!r}", "build the accelerator again")
        return cls(**raw)

    def to_dict(self) -> dict[str, Any]:
        """The "parameters" of a manifest."""
        return asdict(self)

    @property
    def beat_bytes(self) -> int:
        """Bytes of the stream that the units take at once: the trits of all lanes."""
        return -(-self.lanes // TRITS_PER_BYTE)

    @property
    def beat_elements(self) -> int:
        """16-bit elements that a beat carries."""
        return self.beat_bytes // 2

    @property
    def quantised_rows(self) -> int:
        """Words of `lanes` int8 values that a quantised register has."""
        return self.row_beats(self.vector_depth)

    def row_beats(self, columns: int) -> int:
        """Beats of one row of a ternary matrix with K columns."""
        return -(-columns // self.lanes)

    def vector_beats(self, elements: int) -> int:
        """Beats of a vector of 16-bit elements."""
        return -(-elements // self.beat_elements)

    def words(self, beats: int) -> int:
        """Port words that hold a stream of so many beats."""
        return -(-beats * self.beat_bytes // self.port_bytes)

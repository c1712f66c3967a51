"""Instructions and the bytes that they take from the stream, written side by side so that they cannot disagree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from unmul.gateware.isa import Operation
from unmul.gateware.parameters import Parameters
from unmul.gateware.scalar import constant
from unmul.gateware.weight_code import pack_rows

__all__ = ["STREAMED", "Bytes", "Tape", "vector_stream"]

Bytes = npt.NDArray[np.uint8]

STREAMED = 0  # the scalar register that every matrix' scale passes through


@dataclass
class Tape:
    """Instructions, and what makes the bytes that they take from the stream, in the same order."""

    parameters: Parameters
    operations: list[Operation] = field(default_factory=list)
    parts: list[Callable[[], Bytes]] = field(default_factory=list)
    beats: int = 0

    def emit(self, name: str, **values: int) -> None:
        """An instruction that takes nothing from the stream."""
        self.operations.append(Operation(name, values))

    def load(self, vd: int, values: npt.NDArray[np.int16]) -> None:
        """A vector from the stream to vd."""
        self.emit("load", vd=vd, count=values.size)
        self._append(self.parameters.vector_beats(values.size), lambda: vector_stream(values, self.parameters))

    def scale(self, value: float) -> None:
        """A scalar from the stream to the register STREAMED."""
        self.emit("scale", sd=STREAMED)
        header = np.array(constant(value), np.int64).astype("<u2").view(np.uint8)
        self._append(1, lambda: np.pad(header, (0, self.parameters.beat_bytes - header.size)))

    def product(
        self, name: str, shape: tuple[int, int], codes: Callable[[], npt.NDArray[np.int8]], **registers: int
    ) -> None:
        """A product (tmatmul or thead) with the matrix [N, K] that codes() gives, scaled by STREAMED."""
        rows, beats = shape[0], self.parameters.row_beats(shape[1])
        self.emit(name, **registers, sa=STREAMED, count=rows, beats=beats)
        self._append(rows * beats, lambda: pack_rows(codes(), self.parameters.lanes).reshape(-1))

    def _append(self, beats: int, make: Callable[[], Bytes]) -> None:
        self.beats += beats
        self.parts.append(make)


def vector_stream(values: npt.NDArray[np.int16], parameters: Parameters) -> Bytes:
    """Elements [..., n] -> bytes of whole beats [..., beats * beat_bytes]."""
    beats, each = parameters.vector_beats(values.shape[-1]), parameters.beat_elements
    elements = np.zeros((*values.shape[:-1], beats * each), "<i2")
    elements[..., : values.shape[-1]] = values
    stream = np.zeros((*values.shape[:-1], beats, parameters.beat_bytes), np.uint8)
    stream[..., : 2 * each] = elements.view(np.uint8).reshape(*values.shape[:-1], beats, 2 * each)
    return stream.reshape(*values.shape[:-1], -1)

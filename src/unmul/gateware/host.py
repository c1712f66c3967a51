"""The driver of a board that holds a core: weights and program down a serial line, tokens back, by protocol.py."""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from unmul.errors import GatewareError
from unmul.gateware.compile import Compiled
from unmul.gateware.isa import write_program
from unmul.gateware.parameters import Parameters
from unmul.gateware.protocol import HEADER, WRITE, Space, Status, TokenFlag, identity, word_bytes

__all__ = ["Board", "Line"]

Int32 = npt.NDArray[np.int32]

CHUNK = 2**16  # bytes of one exchange: what is lost with it when the line fails


class Line(Protocol):
    """A serial line, as pyserial's Serial or a raw terminal opened without buffer are."""

    def read(self, size: int, /) -> bytes:
        """Up to size bytes; fewer when they do not come in time."""
        ...

    def write(self, content: bytes, /) -> int | None:
        """Send all of it."""
        ...


class Board:
    """A board that was configured with the bitstream of a build.

    Raises:
        GatewareError: nothing answers, or the core there was built with other parameters; so do all methods when the
            board falls silent or bytes are lost.
    """

    def __init__(self, line: Line, parameters: Parameters) -> None:
        self._line, self.parameters = line, parameters
        if self._status(Status.IDENTITY) != identity(parameters):
            raise GatewareError("the board holds a core of other parameters", "load the bitstream of this build")

    def load(self, compiled: Compiled) -> None:
        """Send a model: its weights and its program."""
        image = np.ascontiguousarray(compiled.image).tobytes()
        step = CHUNK // self.parameters.port_bytes
        for start in range(0, len(image), CHUNK):
            self.write(Space.MEMORY, start // CHUNK * step, image[start : start + CHUNK])
        self.write(Space.PROGRAM, 0, write_program(compiled.program))

    def generate(self, prompt: Sequence[int], count: int) -> Iterator[int]:
        """The likeliest tokens behind a prompt of token ids, each as it is made."""
        token, first = prompt[-1], len(prompt) == 1
        for place, each in enumerate(prompt[:-1]):
            self.run(each, first=place == 0, prefill=True)
        for _ in range(count):
            (token,) = self.run(token, first=first)
            first = False
            yield token

    def run(self, token: int, *, first: bool = False, prefill: bool = False, count: int = 1) -> list[int]:
        """Take a token, then each that came out; the `count` tokens that came out."""
        flags = TokenFlag.FIRST * first | TokenFlag.PREFILL * prefill
        return np.frombuffer(self.read(Space.RUN, token | flags, count), "<u4").tolist()

    @property
    def saturations(self) -> int:
        """Elements that did not fit int32, since reset."""
        return self._status(Status.SATURATIONS)

    @property
    def cycles(self) -> int:
        """Cycles that the last token took."""
        return self._status(Status.CYCLES)

    def read_state(self, count: int) -> Int32:
        """The first values of the state."""
        return np.frombuffer(self.read(Space.STATE, 0, count), "<i4").astype(np.int32)

    def write_state(self, values: Int32) -> None:
        """Set the first values of the state."""
        self.write(Space.STATE, 0, np.ascontiguousarray(values, "<i4").tobytes())

    def read(self, space: Space, address: int, count: int) -> bytes:
        """Words of a space."""
        header = HEADER.pack(space, address, count)
        self._line.write(header)
        return self._answer(header, count * word_bytes(space, self.parameters))

    def write(self, space: Space, address: int, content: bytes) -> None:
        """Write whole words to a space."""
        request = HEADER.pack(space | WRITE, address, len(content) // word_bytes(space, self.parameters)) + content
        self._line.write(request)
        self._answer(request, 0)

    def _status(self, which: Status) -> int:
        return int.from_bytes(self.read(Space.STATUS, which, 1), "little")

    def _answer(self, request: bytes, size: int) -> bytes:
        """What comes back to a request, checked."""
        content = self._line.read(size + 2)
        if len(content) < size + 2:
            remedy = "check the line, its speed and the bitstream; a break on the line ends a command that was cut off"
            raise GatewareError(f"the board sent {len(content)} of {size + 2} bytes", remedy)
        if binascii.crc_hqx(request + content[:-2], 0) != int.from_bytes(content[-2:], "little"):
            raise GatewareError("bytes were lost or changed on the line", "load the model again, over a slower line")
        return content[:-2]

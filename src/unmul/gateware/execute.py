"""What every instruction does to the architectural state: registers, scalars, state, logits. The RTL does the same.

Vectors are [B, T, n]: B sequences in lockstep, T tokens of each at once. Only `scan` knows that tokens have an order.
"""

# B sequences, T tokens, L layers, E width of the token mixer, n elements, N rows

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from unmul.errors import GatewareError
from unmul.gateware import units
from unmul.gateware.isa import Operation
from unmul.gateware.parameters import Parameters
from unmul.gateware.scalar import Ints, Scalar, multiply
from unmul.gateware.weight_code import unpack_rows

__all__ = ["EFFECTS", "Memory", "Quantised", "Run", "control_flow"]

Bytes = npt.NDArray[np.uint8]
_RECOMPILE = "compile the model again"


class Quantised(NamedTuple):
    """A quantised register: codes [B, T, n] and their scale [B, T, 1]."""

    codes: Ints
    scale: Scalar


def control_flow(program: Sequence[Operation], *, prefill: bool) -> Iterator[tuple[Operation, int]]:
    """Operations in the order in which they run, with the loop counter; loops and `decode` are resolved here.

    Raises:
        GatewareError: `next` without `loop`, or no `halt`.
    """
    at, start, counter = 0, 0, 0
    while at < len(program):
        operation, at = program[at], at + 1
        if operation.decode and prefill:
            continue
        if operation.name == "halt":
            return
        if operation.name == "loop":
            start, counter = at, 0
        elif operation.name == "next":
            if not start:
                raise GatewareError("the program has `next` before any `loop`", _RECOMPILE)
            counter += 1
            at = start if counter < program[start - 1]["count"] else at
        else:
            yield operation, counter
    raise GatewareError("the program has no `halt`", _RECOMPILE)


class Memory:
    """The weight image behind its port, with the matrices that were decoded once."""

    def __init__(self, image: Bytes, parameters: Parameters) -> None:
        self.parameters = parameters
        self._image = image
        self._matrices: dict[int, npt.NDArray[np.int8]] = {}

    def read(self, start: int, size: int) -> Bytes:
        """Bytes of the image.

        Raises:
            GatewareError: some of them lie behind its end.
        """
        if start + size > self._image.size:
            raise GatewareError(f"byte {start + size - 1} lies behind the weight image", _RECOMPILE)
        return self._image[start : start + size]

    def matrix(self, start: int, rows: int, beats: int) -> npt.NDArray[np.int8]:
        """Codes [N, beats * lanes] of the matrix whose first beat begins at a byte."""
        found = self._matrices.get(start)
        if found is None or found.shape != (rows, beats * self.parameters.lanes):
            stream = self.read(start, rows * beats * self.parameters.beat_bytes).reshape(rows, beats, -1)
            found = self._matrices[start] = unpack_rows(stream, self.parameters.lanes)
        return found


class _Stream:
    """Requests in order, taken in whole beats; a request has one word address, or one per token [B, T]."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._queue: deque[tuple[Ints, int]] = deque()
        self._taken = 0

    def request(self, address: Ints, beats: int) -> None:
        self._queue.append((address, beats))

    def take(self, beats: int) -> Ints:
        """Bytes of the image at which the next beats begin, in the shape of the request's addresses.

        Raises:
            GatewareError: the request at hand has not so many left.
        """
        if not self._queue or self._taken + beats > self._queue[0][1]:
            raise GatewareError(f"{beats} beats are taken that no request delivers", _RECOMPILE)
        address, length = self._queue[0]
        starts = address * self._parameters.port_bytes + self._taken * self._parameters.beat_bytes
        self._taken = (self._taken + beats) % length
        if not self._taken:
            self._queue.popleft()
        return starts

    def check_empty(self) -> None:
        if self._queue:
            raise GatewareError("the program leaves beats untaken", _RECOMPILE)


class Run:
    """One pass of a program over tokens [B, T]; the state [B, L * E] is advanced in place.

    Members are the architectural state after the last instruction: vectors and quantised registers that were written,
    scalars, logits [B, T, V] or None, and how many elements were saturated.
    """

    def __init__(self, memory: Memory, tokens: Ints, state: Ints) -> None:
        self.vectors: dict[int, Ints] = {}
        self.quantised: dict[int, Quantised] = {}
        self.scalars: dict[int, Scalar] = {}
        self.state = state
        self.logits: Ints | None = None
        self.saturations = 0
        self.tokens, self._memory = tokens, memory
        self._stream = _Stream(memory.parameters)

    def execute(self, operation: Operation, counter: int) -> None:
        """One instruction that `control_flow` gave.

        Raises:
            GatewareError: it reads what no instruction has written, or beats that no request delivers.
        """
        try:
            EFFECTS[operation.name](self, operation, counter)
        except KeyError as missing:
            raise GatewareError(f"{operation.name} reads register {missing} before it is written", _RECOMPILE) from None

    def finish(self) -> None:
        """What `halt` relies on: no beat is left."""
        self._stream.check_empty()

    def sums(self, operation: Operation) -> Ints:
        """The accumulators [B, T, N] of a product: codes times the stream's next matrix, which is taken."""
        rows, beats = operation["count"], operation["beats"]
        codes = self.quantised[operation["qa"]].codes
        matrix = self._memory.matrix(int(self._stream.take(rows * beats).item()), rows, beats)
        columns = min(codes.shape[-1], matrix.shape[1])
        # Whole numbers below 2^24: float32 adds them exactly, and NumPy multiplies it faster than integers.
        sums = codes[..., :columns].astype(np.float32) @ matrix[:, :columns].T.astype(np.float32)
        return sums.astype(np.int64)

    def _set(self, operation: Operation, _counter: int) -> None:
        mantissa, exponent = (np.full((1, 1, 1), operation[name], np.int64) for name in ("mantissa", "exponent"))
        self.scalars[operation["sd"]] = Scalar(mantissa, exponent)

    def _request(self, operation: Operation, _counter: int) -> None:
        self._stream.request(np.full((1, 1), operation["address"], np.int64), operation["length"])

    def _embed(self, operation: Operation, _counter: int) -> None:
        self._stream.request(operation["address"] + self.tokens * operation["stride"], operation["row_beats"])

    def _load(self, operation: Operation, _counter: int) -> None:
        beats = self._memory.parameters.vector_beats(operation["count"])
        stream = self._beats(beats)[..., : 2 * self._memory.parameters.beat_elements]
        elements = np.ascontiguousarray(stream).view("<i2").reshape(*stream.shape[:2], -1)
        self._write(operation["vd"], elements[..., : operation["count"]].astype(np.int64))

    def _scale(self, operation: Operation, _counter: int) -> None:
        header = np.ascontiguousarray(self._beats(1)[..., :4])
        mantissa, exponent = header[..., :2].copy().view("<u2"), header[..., 2:].copy().view("<i2")
        self.scalars[operation["sd"]] = Scalar(*(part[..., 0].astype(np.int64) for part in (mantissa, exponent)))

    def _tmatmul(self, operation: Operation, _counter: int) -> None:
        result = self._product(operation)
        if operation["add"]:
            result = result + self._read(operation["vd"], operation["count"])
        self._write(operation["vd"], result)

    def _thead(self, operation: Operation, _counter: int) -> None:
        self.logits = self._saturate(self._product(operation))

    def _norm(self, operation: Operation, _counter: int) -> None:
        self._write(operation["vd"], units.norm(*self._operands(operation), *self._roots(operation)))

    def _quant(self, operation: Operation, _counter: int) -> None:
        found = units.quantise(*self._operands(operation), *self._roots(operation))
        self.quantised[operation["qd"]] = Quantised(*found)

    def _silu(self, operation: Operation, _counter: int) -> None:
        self._write(operation["vd"], units.silu(self._read(operation["va"], operation["count"])))

    def _gate(self, operation: Operation, _counter: int) -> None:
        self._write(operation["vd"], units.gate(*self._operands(operation)))

    def _mul(self, operation: Operation, _counter: int) -> None:
        self._write(operation["vd"], units.mul(*self._operands(operation)))

    def _scan(self, operation: Operation, counter: int) -> None:
        va, vb = np.broadcast_arrays(*self._operands(operation))
        start = operation["base"] + counter * operation["count"]
        if start + va.shape[-1] > self.state.shape[-1]:
            raise GatewareError(f"state value {start + va.shape[-1] - 1} does not exist", _RECOMPILE)
        h, hs = self.state[:, start : start + va.shape[-1]], np.empty_like(va)
        for t in range(va.shape[1]):
            h[:] = hs[:, t] = self._saturate(units.scan(va[:, t], vb[:, t], h))
        self.vectors[operation["vd"]] = hs

    def _product(self, operation: Operation) -> Ints:
        scale = multiply(self.quantised[operation["qa"]].scale, self.scalars[operation["sa"]])
        return units.rescale(self.sums(operation) * scale.mantissa, scale.exponent)

    def _operands(self, operation: Operation) -> tuple[Ints, Ints]:
        return self._read(operation["va"], operation["count"]), self._read(operation["vb"], operation["count"])

    def _roots(self, operation: Operation) -> tuple[Scalar, Scalar]:
        return self.scalars[operation["sa"]], self.scalars[operation["sb"]]

    def _read(self, register: int, count: int) -> Ints:
        """The first elements of a register.

        Raises:
            GatewareError: its last write was shorter.
        """
        vector = self.vectors[register]
        if vector.shape[-1] < count:
            raise GatewareError(f"v{register} holds {vector.shape[-1]} elements, not {count}", _RECOMPILE)
        return vector[..., :count]

    def _write(self, register: int, vector: Ints) -> None:
        self.vectors[register] = self._saturate(vector)

    def _saturate(self, vector: Ints) -> Ints:
        clipped, count = units.saturate(vector)
        self.saturations += count
        return clipped

    def _beats(self, count: int) -> Bytes:
        """The stream's next beats [B, T, count, beat_bytes]."""
        starts = self._stream.take(count)
        size = count * self._memory.parameters.beat_bytes
        stream = np.stack([self._memory.read(int(start), size) for start in starts.flat])
        return stream.reshape(*starts.shape, count, -1)


EFFECTS = {
    "set": Run._set, "stream": Run._request, "embed": Run._embed, "load": Run._load, "scale": Run._scale,
    "tmatmul": Run._tmatmul, "thead": Run._thead, "norm": Run._norm, "quant": Run._quant,
    "silu": Run._silu, "gate": Run._gate, "scan": Run._scan, "mul": Run._mul,
}  # fmt: skip

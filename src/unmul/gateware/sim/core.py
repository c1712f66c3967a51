"""The simulated core as an engine: tokens in, logits and architectural state out, cycles and stalls counted."""

# T tokens, V vocabulary

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unmul.engine.base import FloatArray
from unmul.errors import GatewareError
from unmul.gateware.compile import Compiled
from unmul.gateware.isa import Operation, write_program
from unmul.gateware.parameters import VECTOR_REGISTERS, Parameters
from unmul.gateware.sim.library import Simulator, core_library
from unmul.gateware.sim.verilator import VERILATOR
from unmul.gateware.units import FRACTION_BITS

__all__ = ["EVENTS", "Core", "Memory", "SimulatedEngine"]

Int32 = npt.NDArray[np.int32]

# What is counted, in the order of shim.cpp; each but `words` in cycles.
EVENTS = (
    "cycles", "beats_taken", "starved", "waits_for_unit", "waits_for_register", "waits_for_queue",
    "stream_busy", "norm_busy", "row_busy", "words",
)  # fmt: skip
_VALUES = ctypes.POINTER(ctypes.c_int32)
LIMIT_CYCLES = 10**8  # of one token: a second at 100 MHz


@dataclass(frozen=True, slots=True)
class Memory:
    """How the memory behind the port answers: at most `rate` words a cycle, `latency` cycles after it was asked.

    In a share `stalls` of the cycles it takes no request, and in as many gives no word: drawn at random, the same for
    every core.
    """

    rate: float = 1.0
    latency: int = 20
    stalls: float = 0.0


class Core:
    """One simulated core with its memory, after reset.

    Members: parameters; after a token its logits [V or 0] and next_token, saturations since reset.
    """

    def __init__(
        self,
        parameters: Parameters,
        image: npt.NDArray[np.uint8],
        memory: Memory,
        simulator: Simulator = VERILATOR,
    ) -> None:
        self.parameters = parameters
        self._library = _typed(core_library(parameters, simulator))
        content = np.ascontiguousarray(image)
        self._handle = ctypes.c_void_p(
            self._library.simulation_new(
                content.ctypes.data_as(ctypes.c_char_p),
                content.size,
                parameters.port_bytes,
                memory.rate,
                memory.latency,
                memory.stalls,
            )
        )

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._library.simulation_delete(self._handle)

    def load_program(self, program: Sequence[Operation]) -> None:
        """Write the program RAM.

        Raises:
            GatewareError: the program is longer than it.
        """
        words = np.frombuffer(write_program(program), "<u8").copy()
        if words.size > self.parameters.program_depth:
            raise GatewareError(
                f"a program of {words.size} instructions is longer than the program RAM",
                f"choose program_depth {words.size} or more",
            )
        self._library.simulation_program(
            self._handle, words.ctypes.data_as(ctypes.POINTER(ctypes.c_uint64)), words.size
        )

    def run(self, token: int, *, first: bool = False, prefill: bool = False, limit: int = LIMIT_CYCLES) -> int:
        """One token; returns its cycles.

        Raises:
            GatewareError: it has not ended after `limit` cycles.
        """
        cycles: int = self._library.simulation_token(self._handle, token, first, prefill, limit)
        if not cycles:
            raise GatewareError(f"the core has not ended a token after {limit} cycles", "compile the model again")
        return cycles

    @property
    def logits(self) -> Int32:
        """Of the last token, in row order; none after a prefill."""
        return self._array(self._library.simulation_logits)

    @property
    def next_token(self) -> int:
        """The first token of the largest logit."""
        return int(self._library.simulation_next_token(self._handle))

    @property
    def saturations(self) -> int:
        """Elements that did not fit int32, since reset."""
        return int(self._library.simulation_saturations(self._handle))

    @property
    def events(self) -> dict[str, int]:
        """What was counted since reset."""
        counts = self._library.simulation_events(self._handle)
        return {name: int(counts[place]) for place, name in enumerate(EVENTS)}

    def vector(self, number: int) -> Int32:
        """All elements that were ever written to a vector register."""
        if number not in range(VECTOR_REGISTERS):
            raise GatewareError(f"v{number} is no vector register", f"choose 0 to {VECTOR_REGISTERS - 1}")
        return self._array(self._library.simulation_register, number)

    def read_state(self, count: int) -> Int32:
        """The first values of the state."""
        values = np.empty(count, np.int32)
        self._library.simulation_read_state(self._handle, values.ctypes.data_as(_VALUES), count)
        return values

    def write_state(self, values: Int32) -> None:
        """Set the first values of the state."""
        content = np.ascontiguousarray(values, np.int32)
        self._library.simulation_write_state(self._handle, content.ctypes.data_as(_VALUES), content.size)

    def _array(self, function: ctypes._NamedFuncPointer, *arguments: int) -> Int32:
        values = _VALUES()
        count = function(self._handle, *arguments, ctypes.byref(values))
        return np.ctypeslib.as_array(values, (count,)).copy() if count else np.empty(0, np.int32)


class SimulatedEngine:
    """engine.base.Engine that runs a compiled model on the simulated core; states as gateware.twin.Twin has them."""

    def __init__(self, compiled: Compiled, memory: Memory, simulator: Simulator = VERILATOR) -> None:
        self.config = compiled.config
        self.backend = f"core in {simulator.name}, {compiled.parameters.lanes} lanes"
        self.core = Core(compiled.parameters, compiled.image, memory, simulator)
        self.core.load_program(compiled.program)

    def new_state(self) -> FloatArray:
        return np.zeros((self.config.num_hidden_layers, self.config.mixer_size), np.float32)

    def forward(self, ids: Sequence[int], state: FloatArray, *, every: bool = False) -> FloatArray:
        self.core.write_state(state.view(np.int32).reshape(-1))
        found = []
        for place, token in enumerate(ids):
            wanted = every or place == len(ids) - 1
            self.core.run(token, prefill=not wanted)
            if wanted:
                found.append(self.core.logits / np.float32(1 << FRACTION_BITS))
        state.view(np.int32)[...] = self.core.read_state(state.size).reshape(state.shape)
        return np.stack(found).astype(np.float32) if every else found[0].astype(np.float32)

    def step(self, ids: Sequence[int], states: Sequence[FloatArray]) -> FloatArray:
        return np.stack([self.forward([token], state) for token, state in zip(ids, states, strict=True)])


def _typed(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the functions of shim.cpp."""
    handle, size, words = ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_uint64)
    array = ctypes.POINTER(_VALUES)
    signatures = {
        "new": (handle, [ctypes.c_char_p, size, size, ctypes.c_double, ctypes.c_uint64, ctypes.c_double]),
        "delete": (None, [handle]),
        "program": (None, [handle, words, size]),
        "write_state": (None, [handle, _VALUES, size]),
        "read_state": (None, [handle, _VALUES, size]),
        "token": (ctypes.c_uint64, [handle, ctypes.c_uint32, ctypes.c_int, ctypes.c_int, ctypes.c_uint64]),
        "next_token": (ctypes.c_uint32, [handle]),
        "saturations": (ctypes.c_uint32, [handle]),
        "events": (words, [handle]),
        "logits": (size, [handle, array]),
        "register": (size, [handle, ctypes.c_int, array]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"simulation_{name}")
        function.restype, function.argtypes = result, arguments
    return library

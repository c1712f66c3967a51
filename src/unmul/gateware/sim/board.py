"""A board in Verilator, a model of its memory behind the pins, as the serial line that its host would open."""

from __future__ import annotations

import ctypes

from unmul.gateware.parameters import Parameters
from unmul.gateware.sim.library import SIM, simulated_library
from unmul.gateware.sim.verilator import VERILATOR

__all__ = ["DIVISOR", "SimulatedBoard"]

DIVISOR = 8  # cycles a bit: a fast line, for what is simulated is the board
LIMIT_CYCLES = 10**7  # that a read waits: the line's timeout


class SimulatedBoard:
    """A line for host.Board, ULX3S's. Members: fault, the first rule of the memory's data sheet that was broken, or "";
    cycles.

    Raises:
        GatewareError: there is no C++ compiler, or it or Verilator fails.
        MissingExtraError: Verilator or Amaranth is not installed.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._library = _typed(self._build(parameters))
        self._handle = ctypes.c_void_p(self._library.board_new(parameters.clock_mhz, DIVISOR))

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._library.board_delete(self._handle)

    def write(self, content: bytes, /) -> int:
        """Send all of it."""
        self._library.board_write(self._handle, content, len(content))
        return len(content)

    def read(self, size: int, /) -> bytes:
        """Up to size bytes; fewer when they do not come in time."""
        content = ctypes.create_string_buffer(size)
        found = self._library.board_read(self._handle, content, size, LIMIT_CYCLES)
        return content.raw[:found]

    def send_break(self) -> None:
        """Hold the line low for longer than a byte."""
        self._library.board_break(self._handle)

    def _build(self, parameters: Parameters) -> ctypes.CDLL:
        from unmul.gateware.soc.ulx3s import Ulx3s
        from unmul.gateware.verilog import component_verilog

        return simulated_library(component_verilog(Ulx3s(parameters, DIVISOR)), SIM / "ulx3s.cpp", VERILATOR)

    @property
    def fault(self) -> str:
        """The first rule of the memory's data sheet that was broken."""
        found: bytes = self._library.board_fault(self._handle)
        return found.decode()

    @property
    def cycles(self) -> int:
        """Since reset."""
        return int(self._library.board_cycles(self._handle))


def _typed(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the functions of serial.h."""
    handle, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    signatures = {
        "new": (handle, [ctypes.c_double, ctypes.c_uint]),
        "delete": (None, [handle]),
        "fault": (text, [handle]),
        "cycles": (ctypes.c_uint64, [handle]),
        "write": (None, [handle, text, size]),
        "break": (None, [handle]),
        "read": (size, [handle, text, size, ctypes.c_uint64]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"board_{name}")
        function.restype, function.argtypes = result, arguments
    return library

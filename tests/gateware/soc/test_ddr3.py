"""The model of DDR3 returns what was written, and sees what breaks its data sheet."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import unmul.gateware.sim.library as library_of_cores

CXX = os.environ.get("CXX") or shutil.which("g++")
pytestmark = pytest.mark.skipif(not CXX, reason="needs a C++ compiler")

NOTHING, ACTIVATE, READ, WRITE, PRECHARGE, REFRESH, MODE, CALIBRATE = 0, 1, 2, 6, 5, 3, 7, 4
ALL = 1 << 10
MODES = {2: 0, 3: 0, 1: 6, 0: 0b100 << 4 >> 1 | 1 << 8}  # CWL 5, CL 6, bursts of eight, the DLL locks anew


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    made = tmp_path_factory.mktemp("ddr3") / "ddr3.so"
    source = Path(__file__).with_name("ddr3.cpp")
    flags = ["-std=c++20", "-O1", "-fPIC", "-shared", f"-I{library_of_cores.SIM}"]
    subprocess.run([CXX, *flags, str(source), "-o", str(made)], check=True)
    found = ctypes.CDLL(str(made))
    words, unsigned = np.ctypeslib.ndpointer(np.uint16), ctypes.c_uint
    found.part_new.restype, found.part_fault.restype = ctypes.c_void_p, ctypes.c_char_p
    found.part_delete.argtypes = found.part_fault.argtypes = found.part_enable.argtypes = [ctypes.c_void_p]
    found.part_give.argtypes = [ctypes.c_void_p, *4 * [unsigned]]
    found.part_write.argtypes = [ctypes.c_void_p, unsigned, unsigned, words, ctypes.c_int]
    found.part_read.argtypes = [ctypes.c_void_p, unsigned, unsigned, words, ctypes.POINTER(unsigned)]
    return found


class Part:
    """A part at 600 MHz."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library, self._handle = library, library.part_new()

    def __del__(self) -> None:
        self._library.part_delete(self._handle)

    @property
    def fault(self) -> str:
        return self._library.part_fault(self._handle).decode()

    def give(self, command: int, ba: int = 0, a: int = 0, rest: int = 0) -> None:
        self._library.part_give(self._handle, command, ba, a, rest)

    def start(self) -> "Part":
        self.enable(200)
        for mode, value in MODES.items():
            self.give(MODE, mode, value, rest=20)
        self.give(CALIBRATE, a=ALL, rest=600)
        return self

    def enable(self, rest: int) -> None:
        self._library.part_enable(self._handle)
        self.give(NOTHING, rest=rest)

    def write(self, words: np.ndarray, ba: int = 0, a: int = 0, late: int = 0) -> None:
        self._library.part_write(self._handle, ba, a, words, late)

    def read(self, ba: int = 0, a: int = 0, late: tuple[int, int] = (0, 0)) -> np.ndarray:
        words = np.zeros(8, np.uint16)
        self._library.part_read(self._handle, ba, a, words, (ctypes.c_uint * 2)(*late))
        return words


@pytest.mark.parametrize("late", [(0, 0), (1, 3), (5, 2)])
def test_a_burst_comes_back_a_byte_at_a_time(library, late):
    part, words = Part(library).start(), np.arange(8, dtype=np.uint16) * 4099 + 77
    part.give(ACTIVATE, ba=3, a=1234, rest=10)
    part.write(words, ba=3, a=40)
    part.give(NOTHING, rest=10)
    assert part.read(ba=3, a=40, late=late).tolist() == words.tolist()
    assert part.fault == ""


WORDS = np.zeros(8, np.uint16)
OPEN = [("give", (ACTIVATE, 0, 0, 40))]
BROKEN = {
    "modes": ("before the modes", [("enable", (200,)), ("give", (ACTIVATE,))]),
    "tXPR": ("tXPR", [("enable", (20,)), ("give", (MODE, 2))]),
    "tMRD": ("tMRD", [("enable", (200,)), ("give", (MODE, 2, 0, 1)), ("give", (MODE, 3))]),
    "calibration": ("before a mode", [("enable", (200,)), ("give", (CALIBRATE,))]),
    "tMOD": ("tMOD", [("start", ()), ("give", (MODE, 1, 6, 5)), ("give", (ACTIVATE,))]),
    "tZQinit": ("tZQinit", [("start", ()), ("give", (CALIBRATE, 0, ALL, 300)), ("give", (ACTIVATE,))]),
    "tRCD": ("tRCD", [("start", ()), ("give", (ACTIVATE, 0, 0, 2)), ("read", ())]),
    "tRAS": ("tRAS", [("start", ()), ("give", (ACTIVATE, 0, 0, 5)), ("give", (PRECHARGE,))]),
    "tRP": ("tRP", [("start", ()), *OPEN, ("give", (PRECHARGE, 0, 0, 2)), ("give", (ACTIVATE,))]),
    "tRRD": ("tRRD", [("start", ()), ("give", (ACTIVATE, 0, 0, 1)), ("give", (ACTIVATE, 1))]),
    "tFAW": (
        "tFAW",
        [("start", ()), *(("give", (ACTIVATE, bank, 0, 4)) for bank in range(4)), ("give", (ACTIVATE, 4))],
    ),
    "tRFC": ("tRFC", [("start", ()), ("give", (REFRESH, 0, 0, 40)), ("give", (ACTIVATE,))]),
    "tREFI": ("tREFI", [("start", ()), ("give", (REFRESH, 0, 0, 60_000)), ("give", (ACTIVATE,))]),
    "tCCD": ("tCCD", [("start", ()), *OPEN, ("give", (READ, 0, 0, 1)), ("give", (READ,))]),
    "tRTP": ("tRTP", [("start", ()), *OPEN, ("give", (READ, 0, 0, 1)), ("give", (PRECHARGE,))]),
    "tWTR": ("tWTR", [("start", ()), *OPEN, ("write", (WORDS,)), ("read", ())]),
    "tWR": ("tWR", [("start", ()), *OPEN, ("write", (WORDS,)), ("give", (PRECHARGE,))]),
    "tDQSS": ("tDQSS", [("start", ()), *OPEN, ("write", (WORDS, 0, 0, 1))]),
    "tWPRE": ("tWPRE", [("start", ()), *OPEN, ("write", (WORDS, 0, 0, 2))]),
    "closed": ("closed bank", [("start", ()), ("read", (1,))]),
    "open": ("open bank", [("start", ()), *OPEN, ("give", (ACTIVATE,))]),
    "refresh": ("while a bank is open", [("start", ()), *OPEN, ("give", (REFRESH,))]),
    "order": ("other than their first word", [("start", ()), *OPEN, ("read", (0, 3))]),
}


@pytest.mark.parametrize(("rule", "acts"), BROKEN.values(), ids=BROKEN)
def test_the_part_sees_a_broken_rule(library, rule, acts):
    part = Part(library)
    for name, arguments in acts[:-1]:
        getattr(part, name)(*arguments)
        assert part.fault == ""
    name, arguments = acts[-1]
    getattr(part, name)(*arguments)
    assert rule in part.fault

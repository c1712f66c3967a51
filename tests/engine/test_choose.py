"""The choice of instruction set and of threads."""

import os
import subprocess
import sys

import pytest
from models import TINY

from unmul.config import preset
from unmul.engine import _native
from unmul.engine.choose import ISA_VARIABLE, choose_isa, choose_threads, physical_cores
from unmul.errors import UsageError


def test_fastest_instruction_set_is_chosen_unless_one_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ISA_VARIABLE, raising=False)
    assert choose_isa() == _native.instruction_sets()[-1]
    monkeypatch.setenv(ISA_VARIABLE, "scalar")
    assert choose_isa() == "scalar"


# The system refuses tile registers to a process with a signal stack that could not hold them.
SMALL_SIGNAL_STACK = """
import ctypes
class Stack(ctypes.Structure):
    _fields_ = [("memory", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]
memory = ctypes.create_string_buffer(8192)
assert ctypes.CDLL(None).sigaltstack(ctypes.byref(Stack(ctypes.addressof(memory), 0, 8192)), None) == 0
from unmul.engine import _native
print(_native.instruction_sets()[-1])
"""


@pytest.mark.skipif("amx" not in _native.instruction_sets(), reason="this machine has no AMX to be refused")
def test_a_process_that_may_not_use_tiles_takes_the_next_best() -> None:
    done = subprocess.run([sys.executable, "-c", SMALL_SIGNAL_STACK], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == _native.instruction_sets()[-2]


def test_threads_default_to_the_physical_cores_of_the_process() -> None:
    assert choose_threads(None, preset("2.7b")) == min(physical_cores(), 78)  # MiWeights a layer
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)


def test_a_small_model_gets_one_thread_unless_more_are_asked_for() -> None:
    assert choose_threads(None, TINY) == 1
    assert choose_threads(3, TINY) == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind processes to cores")
def test_a_process_bound_to_one_core_gets_one_thread() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert physical_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, 100_000])
def test_thread_counts_out_of_range_are_refused(threads: object) -> None:
    with pytest.raises(UsageError, match=r"threads .* cannot be used"):
        choose_threads(threads, TINY)

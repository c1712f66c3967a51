"""What this machine offers the native engine: instruction sets and cores."""

from __future__ import annotations

import os
from pathlib import Path

from unmul.errors import EngineError, UsageError

__all__ = ["ISA_VARIABLE", "choose_isa", "choose_threads", "physical_cores"]

ISA_VARIABLE = "UNMUL_ISA"  # forces one instruction set, for tests and comparisons
_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_MOST_THREADS = 1024


def choose_isa() -> str:
    """The fastest instruction set that this CPU reports, or the one that UNMUL_ISA forces."""
    from unmul.engine import _native

    usable = _native.instruction_sets()
    forced = os.environ.get(ISA_VARIABLE)
    if not forced:
        return usable[-1]
    if forced not in usable:
        raise EngineError(f"{ISA_VARIABLE}={forced} cannot run here", f"choose one of {', '.join(usable)}, or unset it")
    return forced


def choose_threads(threads: int | None) -> int:
    """A checked thread count; None takes one per physical core."""
    if threads is None:
        return physical_cores()
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= _MOST_THREADS:
        raise UsageError(f"threads {threads!r} cannot be used", f"choose 1 to {_MOST_THREADS}, best {physical_cores()}")
    return threads


def physical_cores() -> int:
    """Cores that this process may use, two hardware threads of one core counted once."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    return len({_siblings(cpu) for cpu in os.sched_getaffinity(0)})


def _siblings(cpu: int) -> str:
    try:
        return Path(_TOPOLOGY.format(cpu)).read_text().strip()
    except OSError:
        return str(cpu)

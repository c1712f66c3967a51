"""What this machine offers the native engine: instruction sets and cores."""

from __future__ import annotations

import os
from pathlib import Path

from unmul.config import ModelConfig
from unmul.errors import EngineError, UsageError

__all__ = ["ISA_VARIABLE", "choose_isa", "choose_threads", "physical_cores"]

ISA_VARIABLE = "UNMUL_ISA"  # forces one instruction set, for tests and comparisons
# Of a layer, 256 KiB in memory: with fewer, threads gain little alone and wait for each other on a busy machine.
WEIGHTS_A_THREAD = 2**20
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


def choose_threads(threads: int | None, config: ModelConfig) -> int:
    """A checked thread count; None takes one per physical core, but no more than a layer has work for."""
    if threads is None:
        return max(1, min(physical_cores(), config.ternary_weights // config.num_hidden_layers // WEIGHTS_A_THREAD))
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

"""What this machine is, as far as speed and memory depend on it: memory, instruction sets."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path

__all__ = ["cpu_features", "cpu_name", "memory_bytes", "peak_rss_bytes"]

PROC = Path("/proc")

# The instruction sets that a native engine can make use of, as Linux names them.
FEATURES = (
    "avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_vbmi", "avx512_bf16", "amx_int8",
    "asimddp", "i8mm", "sve2",
)  # fmt: skip


def peak_rss_bytes() -> int:
    """The most memory that this process has held so far (VmHWM); 0 where the system does not say (Windows)."""
    status = _read(PROC / "self/status")
    if match := re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE):
        return int(match[1]) * 1024
    try:
        import resource
    except ModuleNotFoundError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes


def cpu_name() -> str:
    """The processor's name as it gives it itself."""
    match = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", _read(PROC / "cpuinfo"), re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """The processor's instruction sets that matter here."""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _read(PROC / "cpuinfo"), re.MULTILINE)
    present = set(match[1].split()) if match else set()
    return [name for name in FEATURES if name in present]


def memory_bytes() -> tuple[int, int]:
    """Memory of the machine, and how much of it is free to use; zeros where the system does not say."""
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB", _read(PROC / "meminfo"), re.MULTILINE))
    return 1024 * int(found.get("MemTotal", 0)), 1024 * int(found.get("MemAvailable", 0))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

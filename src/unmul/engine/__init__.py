"""Native runtimes behind one small interface (engine.base.Engine), opened by open_engine."""

from __future__ import annotations

from pathlib import Path

from unmul.engine.base import Engine
from unmul.errors import UsageError

__all__ = ["Engine", "open_engine"]


def open_engine(folder: Path, *, device: str = "cpu", threads: int | None = None) -> Engine:
    """Load a packed checkpoint folder into the runtime of a device.

    Args:
        device: "cpu".
        threads: None takes one per physical core that this process may use.

    Raises:
        UsageError: unknown device, or a thread count below 1.
        CheckpointError: the folder is latent (its remedy is the `unmul pack` command) or damaged.
        EngineError: this machine cannot run it, or the self-test failed.
    """
    if device != "cpu":
        raise UsageError(f"device {device!r} has no engine", "choose cpu")
    from unmul.checkpoint import PackedCheckpoint
    from unmul.engine.cpu import CpuEngine

    return CpuEngine(PackedCheckpoint.open(folder), threads=threads)

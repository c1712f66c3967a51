"""Native runtimes behind one small interface (engine.base.Engine), opened by open_engine."""

from __future__ import annotations

from pathlib import Path

from unmul.engine.base import Engine, Writer
from unmul.errors import UsageError

__all__ = ["Engine", "Writer", "open_engine"]


def open_engine(folder: Path, *, device: str = "cpu", threads: int | None = None) -> Engine:
    """Load a packed checkpoint folder into the runtime of a device.

    Args:
        device: "cpu" or "cuda".
        threads: of the CPU engine; None takes one per physical core that this process may use.

    Raises:
        UsageError: unknown device, or a thread count below 1.
        CheckpointError: the folder is latent (its remedy is the `unmul pack` command) or damaged.
        MissingExtraError: cuda without its libraries.
        EngineError: this machine cannot run it, or the self-test failed.
    """
    if device not in ("cpu", "cuda"):
        raise UsageError(f"device {device!r} has no engine", "choose cpu or cuda")
    if device == "cuda" and threads is not None:
        raise UsageError(f"threads {threads} with device cuda", "leave threads out: they are the CPU engine's")
    from unmul.checkpoint import PackedCheckpoint

    packed = PackedCheckpoint.open(folder)
    if device == "cuda":
        from unmul.engine.cuda import CudaEngine

        return CudaEngine(packed)
    from unmul.engine.cpu import CpuEngine

    return CpuEngine(packed, threads=threads)

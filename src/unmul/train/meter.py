"""What a step costs: tokens, FLOPs, the share of the device's peak that they are (MFU), memory, and energy."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from unmul import energy
from unmul.machine import peak_rss_bytes
from unmul.train.flops import peak_flops
from unmul.train.world import World

__all__ = ["Energy", "Meter"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Meter:
    """The measure of a run's steps.

    Args:
        tokens_per_step: over all devices, and `flops_per_token` of flops.size.
        device: where the run is; its memory counts, on a CPU that of the process. devices: how many such there are.
        dtype: "bf16" or "fp32"; the peak of a device is known for bf16.
    """

    tokens_per_step: int
    flops_per_token: int
    device: torch.device
    devices: int = 1
    dtype: str

    def figures(self, seconds: float) -> dict[str, float | None]:
        """Of a step of so many seconds; mfu is None where the device's peak is not known."""
        tokens_per_s = self.tokens_per_step / seconds
        return {"tokens_per_s": tokens_per_s, "mfu": self._mfu(tokens_per_s), "peak_memory_bytes": self._memory()}

    def totals(self, done: int) -> dict[str, int]:
        """Tokens and FLOPs of so many steps."""
        tokens = done * self.tokens_per_step
        return {"tokens": tokens, "flops": tokens * self.flops_per_token}

    def shown(self, seconds: float) -> str:
        """The figures for people."""
        figures = self.figures(seconds)
        mfu = f"  MFU {figures['mfu']:.1%}" if figures["mfu"] is not None else ""
        return f"{figures['tokens_per_s']:,.0f} tokens/s{mfu}  {self._memory() / 2**30:.1f} GiB"

    def _mfu(self, tokens_per_s: float) -> float | None:
        peak = peak_flops(self.device) if self.dtype == "bf16" else None
        return None if peak is None else tokens_per_s * self.flops_per_token / (peak * self.devices)

    def _memory(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return peak_rss_bytes()


class Energy:
    """The joules of all devices of a run: every process' GPU, or every machine's processors. Closed by `with`."""

    def __init__(self, world: World) -> None:
        self._world = world
        # The processes of one machine share its processors: one of them counts.
        counts = world.device.type == "cuda" or os.environ.get("LOCAL_RANK", "0") == "0"
        self._meter = energy.Meter(str(world.device)) if counts else None

    def __enter__(self) -> Energy:
        return self

    def __exit__(self, *error: object) -> None:
        if self._meter:
            self._meter.close()

    def joules(self) -> float | None:
        """Since the run was opened; asked on all processes together, None on all where one has no meter."""
        own = self._meter.joules() if self._meter else 0.0
        missing, total = self._world.total([own is None, own or 0.0])
        return None if missing else total

    def described(self) -> tuple[str | None, str]:
        """The meter of this process in words, or None; and why there is none."""
        return (self._meter.source, self._meter.reason) if self._meter else (None, "another process counts")

"""How everything here is timed: medians of interleaved rounds, short launches inside a CUDA graph."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import triton

__all__ = ["Timing", "graphed", "interleaved", "machine", "milliseconds", "write_report"]

Timing = dict[str, float]


def milliseconds(call: Callable[[], Any]) -> float:
    """Time of one call on the device; on the CPU where there is no GPU."""
    if not torch.cuda.is_available():
        began = time.perf_counter()
        call()
        return (time.perf_counter() - began) * 1e3
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def graphed(call: Callable[[], Any], repeats: int = 10) -> Callable[[], None]:
    """The call, several times in one CUDA graph, so that launching costs nothing; time it and divide by repeats."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            call()
    return graph.replay


def interleaved(calls: Mapping[str, Callable[[], Any]], rounds: int, divide: int = 1) -> dict[str, Timing]:
    """Median, least and most milliseconds of each call, all of them run in turn in every round."""
    for call in calls.values():
        call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(milliseconds(call) / divide)
    return {
        name: {"median_ms": statistics.median(found), "min_ms": min(found), "max_ms": max(found)}
        for name, found in times.items()
    }


def machine() -> dict[str, str]:
    """What was measured on, for the report."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    found = shutil.which(query[0])
    driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip() if found else "none"
    return {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "driver": driver,
        "torch": torch.__version__,
        "triton": triton.__version__,
    }


def write_report(path: Path, results: Mapping[str, Any]) -> None:
    """Results and machine as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine(), **results}, indent=1) + "\n")

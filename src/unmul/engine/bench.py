"""How fast a packed model runs here: tokens per second, bandwidth and peak memory, measured in a process of its own."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from unmul.checkpoint import write_packed
from unmul.checkpoint.packed import packed_specs
from unmul.checkpoint.tensorfile import BF16, Array
from unmul.config import ModelConfig
from unmul.engine.cpu import CpuEngine
from unmul.errors import EngineError, UsageError
from unmul.machine import peak_rss_bytes

__all__ = ["BenchReport", "measure", "measure_here", "write_random"]

NOT_MEASURED = "no energy counter is read by this version"
_VALID_BYTES = 243


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Medians over runs, [least, most] as spread; bytes, GB/s (10^9), seconds; joules None where no meter was read."""

    backend: str
    threads: int
    prompt_tokens: int
    new_tokens: int
    runs: int
    load_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    prefill_spread: list[float]
    decode_spread: list[float]
    weight_bytes: int
    file_bytes: int
    bandwidth_GBs: float
    peak_rss_bytes: int
    joules_per_token: float | None
    joules_reason: str


def measure(folder: Path, *, threads: int | None, prompt: int, new: int, runs: int = 5) -> BenchReport:
    """Measure a packed folder in a fresh process, so that the peak memory is the engine's alone."""
    for name, value in (("prompt", prompt), ("new", new), ("runs", runs)):
        if value < 1:
            raise UsageError(f"{name} {value} cannot be measured", "choose at least 1")
    request = json.dumps({"folder": str(folder), "threads": threads, "prompt": prompt, "new": new, "runs": runs})
    child = subprocess.run([sys.executable, "-m", "unmul.engine.bench", request], capture_output=True, text=True)
    if child.returncode != 0:
        last = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise EngineError(f"the measuring process failed ({last})", "run it again with --debug")
    return BenchReport(**json.loads(child.stdout))


def measure_here(folder: Path, *, threads: int | None, prompt: int, new: int, runs: int) -> BenchReport:
    """Measure in this process: one warm-up, then runs of a prompt and of single tokens after it."""
    from unmul.engine import open_engine

    started = time.perf_counter()
    engine = open_engine(folder, threads=threads)
    load_s = time.perf_counter() - started
    assert isinstance(engine, CpuEngine)
    rates = [_run(engine, prompt, new) for _ in range(runs + 1)][1:]
    prefill, decode = ([rate[k] for rate in rates] for k in (0, 1))
    return BenchReport(
        backend=engine.backend,
        threads=engine.threads,
        prompt_tokens=prompt,
        new_tokens=new,
        runs=runs,
        load_s=load_s,
        prefill_tokens_per_s=median(prefill),
        decode_tokens_per_s=median(decode),
        prefill_spread=[min(prefill), max(prefill)],
        decode_spread=[min(decode), max(decode)],
        weight_bytes=engine.weight_bytes,
        file_bytes=(folder / "model.safetensors").stat().st_size,
        bandwidth_GBs=engine.weight_bytes * median(decode) / 1e9,
        peak_rss_bytes=peak_rss_bytes(),
        joules_per_token=None,
        joules_reason=NOT_MEASURED,
    )


def _run(engine: CpuEngine, prompt: int, new: int) -> tuple[float, float]:
    ids = np.random.default_rng(0).integers(0, engine.config.vocab_size, prompt + new).tolist()
    state = engine.new_state()
    start = time.perf_counter()
    engine.forward(ids[:prompt], state)
    middle = time.perf_counter()
    for token in ids[prompt:]:
        engine.forward([token], state)
    end = time.perf_counter()
    return prompt / (middle - start), new / (end - middle)


def write_random(folder: Path, config: ModelConfig, seed: int = 0) -> None:
    """A packed folder of random codes with scales that keep activations near 1: real bytes for a preset's shape."""
    folder.mkdir(parents=True, exist_ok=True)
    write_packed(folder, config, _random_maker(config, np.random.default_rng(seed)), "int8")


def _random_maker(config: ModelConfig, random: np.random.Generator) -> Callable[[str], Array]:
    specs = packed_specs(config, "int8")

    def make(name: str) -> Array:
        spec = specs[name]
        if spec.dtype == np.uint8:
            return random.integers(0, _VALID_BYTES, spec.shape, np.uint8)
        if spec.dtype == np.int8:
            return random.integers(-127, 128, spec.shape, np.int8)
        if spec.dtype == BF16:
            return (np.zeros if name.endswith("lower_bounds") else np.ones)(spec.shape, BF16)
        width = config.tensor_shapes[name.removesuffix("_scale")][-1]
        return np.full(spec.shape, 1 / math.sqrt(width), np.float32)

    return make


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    print(json.dumps(asdict(measure_here(Path(request.pop("folder")), **request))))

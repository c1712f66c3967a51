"""How fast a packed model runs here: tokens per second, where the time goes, bandwidth against the machine's own, and
peak memory, measured in a process of its own."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol, cast

import numpy as np

from unmul.checkpoint import write_packed
from unmul.checkpoint.packed import packed_specs
from unmul.checkpoint.tensorfile import BF16, Array
from unmul.config import ModelConfig
from unmul.energy import Meter, Reading
from unmul.engine import open_engine
from unmul.engine.base import Engine, Writer
from unmul.engine.sampler import Sampler, SamplingParams
from unmul.errors import EngineError, UsageError
from unmul.machine import peak_rss_bytes

__all__ = ["BenchReport", "BenchRequest", "Measured", "measure", "measure_here", "random_maker", "write_random"]

IDLE_S = 2.0  # of quiet before the first run, where there is a meter
_VALID_BYTES = 243


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Medians over runs, [least, most] as spread; bytes, GB/s (10^9), seconds; joules and watts None without a meter.

    Decode counts the tokens of all sequences of the batch, and the joules are those of decode; machine_GBs is what the
    same threads reach when they only read the weights, or a GPU when it copies; device_bytes are a GPU's; profile holds
    seconds a token by phase, of one more run of prefill and of decode.
    """

    backend: str
    threads: int | None
    prompt_tokens: int
    new_tokens: int
    batch: int
    runs: int
    load_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    prefill_spread: list[float]
    decode_spread: list[float]
    weight_bytes: int
    file_bytes: int
    bandwidth_GBs: float
    machine_GBs: float
    bandwidth_share: float
    peak_rss_bytes: int
    device_bytes: int | None
    joules_per_token: float | None
    joules_per_token_above_idle: float | None
    idle_watts: float | None
    joules_source: str | None
    joules_reason: str
    profile: dict[str, dict[str, float]] | None


class Measured(Engine, Protocol):
    """What the engines of open_engine also offer, to be measured."""

    threads: int | None
    weight_bytes: int

    def read_bandwidth(self) -> float:
        """Bytes a second that the memory under the engine could give it."""
        ...

    def profile(self) -> AbstractContextManager[dict[str, float]]:
        """Measure phases: of the CPU engine only."""
        ...


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """What to measure: a prompt of one sequence, then new tokens one by one of each of batch sequences."""

    threads: int | None = None
    prompt: int = 512
    new: int = 128
    batch: int = 1
    runs: int = 5
    profile: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.profile and self.device != "cpu":
            raise UsageError(f"profile with device {self.device}", "leave it out: only the CPU engine measures phases")
        for name in ("prompt", "new", "batch", "runs"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)} cannot be measured", "choose at least 1")


def measure(folder: Path, request: BenchRequest) -> BenchReport:
    """Measure a packed folder in a fresh process, so that the peak memory is the engine's alone."""
    words = [sys.executable, "-m", "unmul.engine.bench", str(folder), json.dumps(asdict(request))]
    child = subprocess.run(words, capture_output=True, text=True)
    if child.returncode != 0:
        last = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise EngineError(f"the measuring process failed ({last})", "run it again with --debug")
    return BenchReport(**json.loads(child.stdout))


def measure_here(folder: Path, request: BenchRequest) -> BenchReport:
    """Measure in this process: one warm-up, then runs of a prompt and of single tokens after it."""
    started = time.perf_counter()
    engine = cast(Measured, open_engine(folder, device=request.device, threads=request.threads))
    load_s = time.perf_counter() - started
    with Meter(request.device) as meter:
        idle_watts = meter.idle_watts(IDLE_S)
        runs = [_run(engine, request, meter) for _ in range(request.runs + 1)][1:]
    prefill = [request.prompt / prompt.seconds for prompt, _ in runs]
    decode = [request.new * request.batch / new.seconds for _, new in runs]
    machine = engine.read_bandwidth()
    bandwidth = engine.weight_bytes * median(decode) / request.batch
    return BenchReport(
        backend=engine.backend,
        threads=engine.threads,
        prompt_tokens=request.prompt,
        new_tokens=request.new,
        batch=request.batch,
        runs=request.runs,
        load_s=load_s,
        prefill_tokens_per_s=median(prefill),
        decode_tokens_per_s=median(decode),
        prefill_spread=[min(prefill), max(prefill)],
        decode_spread=[min(decode), max(decode)],
        weight_bytes=engine.weight_bytes,
        file_bytes=(folder / "model.safetensors").stat().st_size,
        bandwidth_GBs=bandwidth / 1e9,
        machine_GBs=machine / 1e9,
        bandwidth_share=bandwidth / machine,
        peak_rss_bytes=peak_rss_bytes(),
        device_bytes=getattr(engine, "device_bytes", None),
        **_energy([new for _, new in runs], request, idle_watts),
        profile=_profile(engine, request) if request.profile else None,
    )


def _run(engine: Engine, request: BenchRequest, meter: Meter) -> tuple[Reading, Reading]:
    """What prefill and decode cost."""
    readings = []
    for work in _work(engine, request):
        with meter.measure() as reading:
            work()
        readings.append(reading)
    return readings[0], readings[1]


def _energy(decode: list[Reading], request: BenchRequest, idle_watts: float | None) -> dict[str, Any]:
    """The energy of a token, over all runs: a counter moves in steps that a single short one may not fill."""
    tokens, last = request.new * request.batch * len(decode), decode[-1]
    joules = None if last.joules is None else sum(reading.joules or 0.0 for reading in decode) / tokens
    seconds = sum(reading.seconds for reading in decode) / tokens
    token = Reading(last.source, last.reason, seconds, joules, idle_watts)
    return {
        "joules_per_token": token.joules,
        "joules_per_token_above_idle": token.joules_above_idle,
        "idle_watts": token.idle_watts,
        "joules_source": token.source,
        "joules_reason": token.reason,
    }


def _work(engine: Engine, request: BenchRequest) -> tuple[Callable[[], None], Callable[[], None]]:
    ids = np.random.default_rng(0).integers(0, engine.config.vocab_size, request.prompt + request.new).tolist()
    states = [engine.new_state() for _ in range(request.batch)]

    def prompt() -> None:
        engine.forward(ids[: request.prompt], states[0])
        for state in states[1:]:
            state[:] = states[0]

    def new() -> None:
        if isinstance(engine, Writer):
            engine.write(ids[:1] * request.batch, states, _greedy(request.batch), count=request.new)
            return
        for token in ids[request.prompt :]:
            engine.step([token] * request.batch, states)

    return prompt, new


def _profile(engine: Measured, request: BenchRequest) -> dict[str, dict[str, float]]:
    """Seconds a token by phase. What lies outside the native pass (the call, rows of the table) is the embeddings'."""
    tokens = (request.prompt, request.new * request.batch)
    found = {}
    for name, work, count in zip(("prefill", "decode"), _work(engine, request), tokens, strict=True):
        with engine.profile() as phases:
            total = _seconds(work)
        phases["embeddings"] += total - sum(phases.values())
        found[name] = {phase: spent / count for phase, spent in phases.items()}
    return found


def _greedy(count: int) -> list[Sampler]:
    return [Sampler(SamplingParams(temperature=0)) for _ in range(count)]


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def write_random(folder: Path, config: ModelConfig, seed: int = 0) -> None:
    """A packed folder of random codes with scales that keep activations near 1: real bytes for a preset's shape."""
    folder.mkdir(parents=True, exist_ok=True)
    write_packed(folder, config, random_maker(config, seed), "int8")


def random_maker(config: ModelConfig, seed: int = 0) -> Callable[[str], Array]:
    """What makes the tensors of such a folder, by their names, in the order of packed_specs."""
    random, specs = np.random.default_rng(seed), packed_specs(config, "int8")

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
    print(json.dumps(asdict(measure_here(Path(sys.argv[1]), BenchRequest(**json.loads(sys.argv[2]))))))

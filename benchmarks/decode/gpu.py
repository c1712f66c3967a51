"""Decode and prefill of the CUDA engine on published shapes with random ternary weights, beside a Llama.

    python benchmarks/decode/gpu.py [--presets 370m 1.3b 2.7b] [--alone] [--seconds 240] [--out benchmarks/reports]

Checks the engine against the CPU engine first, to the bit, and measures nothing if it differs. A Llama of that shape
(transformers, bf16, static cache, one CUDA graph a token) and a chain of the products by cuBLAS in bf16 take turns
with ours. What does not fit in the seconds is left out and named. Writes decode_<gpu>_<date>.md and the raw figures as
.json beside it, anew after each part.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from timing import machine

from unmul import energy
from unmul.checkpoint import PackedCheckpoint
from unmul.checkpoint.packed import packed_specs
from unmul.checkpoint.tensorfile import BF16
from unmul.config import ModelConfig, preset
from unmul.engine.bench import write_random
from unmul.engine.cpu import CpuEngine
from unmul.engine.cuda import CudaEngine
from unmul.engine.cuda.device import Gpu
from unmul.engine.sampler import Sampler, SamplingParams
from unmul.files import write_text

from engine import REPOSITORY, commit, slug  # isort: skip - beside this file
from gpu_report import report  # isort: skip

SMALL = ModelConfig(vocab_size=257, hidden_size=96, intermediate_size=224, num_hidden_layers=4)
LARGE = ModelConfig(hidden_size=5120, num_hidden_layers=40)  # the paper's 13B, as far as it says
BATCHES = (1, 16, 64)
PROMPT, NEW, PREFILL, ROUNDS = 128, 128, 2048, 5
ENERGY_S = 1.5  # of work that the joules are measured over
IDLE_S = 1.0  # before it, for the power of the idle GPU
LONG = 8_192  # tokens of context, before and after which memory is read
Figures = dict[str, Any]


def main() -> None:
    """Check, measure part by part, write the report after each."""
    options = arguments()
    check()
    deadline = time.monotonic() + options.seconds
    document: Figures = describe() | {"models": [], "left_out": []}
    for name in (*options.presets, "13b"):
        if time.monotonic() > deadline:
            document["left_out"].append(name)
            continue
        document["models"].append(measure(name, deadline, options.alone))
        write(options.out, document)
    print(write(options.out, document))


def arguments() -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["1.3b", "370m", "2.7b"])
    parser.add_argument("--alone", action="store_true", help="without the Llama and cuBLAS")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "reports")
    return parser.parse_args()


def check() -> None:
    """Stop unless logits and states are the CPU engine's, token by token, as a prompt and as a batch."""
    with tempfile.TemporaryDirectory(prefix="unmul-bench-") as temporary:
        write_random(Path(temporary) / "small", SMALL)
        packed = PackedCheckpoint.open(Path(temporary) / "small")
        answers = [_answers(CudaEngine(packed)), _answers(CpuEngine(packed))]
    if answers[0] != answers[1]:
        sys.exit("the engines differ: nothing was measured")


def _answers(engine: CudaEngine | CpuEngine) -> list[bytes]:
    ids = [7 * k % SMALL.vocab_size for k in range(100)]
    states = [engine.new_state() for _ in range(20)]
    found = [engine.forward(ids, states[0], every=True), engine.forward(ids[:1], states[0])]
    found += [engine.step(ids[:20], states), *states]
    return [values.tobytes() for values in found]


def describe() -> Figures:
    """Where, when and what is measured."""
    return {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "commit": commit(), "command": sys.argv}


def measure(name: str, deadline: float, alone: bool) -> Figures:
    """Everything about one shape."""
    config = LARGE if name == "13b" else preset(name)
    gpu = Gpu()
    before = gpu.memory()[0]
    start = time.perf_counter()
    engine = CudaEngine(random_packed(config), device=gpu)
    figures: Figures = {"model": name, "load_s": time.perf_counter() - start, "weight_bytes": engine.weight_bytes}
    figures["memory"] = memory(engine, gpu, before)  # while nobody else takes any
    figures["copy_GBs"] = engine.read_bandwidth() / 1e9
    if name == "13b":
        return figures | {"decode": [decode(engine, 1)]}
    figures["prefill"] = prefill(engine)
    figures["sampled"] = sampled(engine)
    rivals = None if alone or time.monotonic() > deadline else Rivals(config)
    figures["decode"] = [decode(engine, batch, rivals) for batch in BATCHES]
    if rivals:
        figures["llama_bytes"] = rivals.llama_bytes
        del rivals
        torch.cuda.empty_cache()
    return figures


def random_packed(config: ModelConfig) -> PackedCheckpoint:
    """A packed checkpoint in memory whose bytes repeat: speed does not depend on them, and 13B need no file."""
    block = np.random.default_rng(0).integers(0, 243, 1 << 20, np.uint8)
    tensors = {}
    for name, spec in packed_specs(config, "int8").items():
        if spec.dtype in (np.uint8, np.int8):
            tensors[name] = np.resize(block, math.prod(spec.shape)).reshape(spec.shape).view(spec.dtype)
        elif spec.dtype == BF16:
            tensors[name] = (np.zeros if name.endswith("lower_bounds") else np.ones)(spec.shape, BF16)
        else:
            columns = config.tensor_shapes[name.removesuffix("_scale")][-1]
            tensors[name] = np.full(spec.shape, 1 / math.sqrt(columns), np.float32)
    return PackedCheckpoint(Path("random weights"), config, tensors, "int8")


def decode(engine: CudaEngine, batch: int, rivals: Rivals | None = None) -> Figures:
    """Milliseconds a step of so many texts after a prompt, all in turn in every round; joules a token."""
    ours = Texts(engine, batch, SamplingParams(temperature=0))
    calls: dict[str, Callable[[], float]] = {"ours": ours.step_ms}
    if rivals:
        calls["llama"] = rivals.llama(batch)
        if batch == 1:
            calls["cublas chain"] = rivals.chain()
    rounds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            rounds[name].append(call())
    times = {name: spread(found) for name, found in rounds.items()}
    readings = {name: token_energy(call, batch) for name, call in ours_and_llama(ours, calls).items()}
    joules = {name: reading.reason or reading.joules for name, reading in readings.items()}
    above_idle = {name: reading.joules_above_idle for name, reading in readings.items()}
    return {"batch": batch, "ms": times, "joules_per_token": joules, "joules_above_idle": above_idle}


def ours_and_llama(ours: Texts, calls: dict[str, Callable[[], float]]) -> dict[str, Callable[[], int]]:
    """Work whose energy is measured: each call does so many steps."""
    found: dict[str, Callable[[], int]] = {"ours": ours.write}
    if "llama" in calls:
        found["llama"] = lambda: (calls["llama"](), NEW)[1]
    return found


class Texts:
    """Texts that the engine goes on with, after a prompt."""

    def __init__(self, engine: CudaEngine, batch: int, sampling: SamplingParams) -> None:
        self._engine = engine
        self._samplers = [Sampler(sampling) for _ in range(batch)]
        state = engine.new_state()
        engine.forward(prompt_ids(engine.config, PROMPT), state)
        self._states = [state.copy() for _ in range(batch)]
        self._ids = [5] * batch
        self.write()

    def write(self, count: int = NEW) -> int:
        """Write tokens, greedily or not, whatever they are."""
        self._ids = self._engine.write(self._ids, self._states, self._samplers, count=count)[-1].tolist()
        return count

    def step_ms(self) -> float:
        """Milliseconds a step, without what a call costs however many it takes."""
        long, short = seconds(self.write), seconds(lambda: self.write(NEW // 4))
        return 1e3 * (long - short) / (NEW - NEW // 4)


def token_energy(work: Callable[[], int], batch: int) -> energy.Reading:
    """Seconds and joules of one token, over at least ENERGY_S of work; before it, the power of the idle GPU."""
    steps = 0
    with energy.measure("cuda", idle_s=IDLE_S) as reading:
        start = time.perf_counter()
        while time.perf_counter() - start < ENERGY_S:
            steps += work()
    tokens = steps * batch
    joules = None if reading.joules is None else reading.joules / tokens
    return replace(reading, seconds=reading.seconds / tokens, joules=joules)


def prefill(engine: CudaEngine) -> Figures:
    """Tokens a second of a prompt."""
    ids = prompt_ids(engine.config, PREFILL)
    engine.forward(ids, engine.new_state())
    times = [seconds(lambda: engine.forward(ids, engine.new_state())) for _ in range(ROUNDS)]
    return {"tokens": PREFILL, "tokens_per_s": spread([PREFILL / taken for taken in times])}


def sampled(engine: CudaEngine) -> Figures:
    """Milliseconds a step where tokens are drawn with the defaults of SamplingParams."""
    texts = Texts(engine, 1, SamplingParams(seed=0))
    return spread([texts.step_ms() for _ in range(ROUNDS)])


def memory(engine: CudaEngine, gpu: Gpu, before: int) -> Figures:
    """Bytes beyond the context's own, as the driver counts them: now, and after a long text. The engine's allocations
    are all made by then; nothing in it grows with the text."""
    texts = Texts(engine, 1, SamplingParams(temperature=0))
    first, allocated = before - gpu.memory()[0], engine.device_bytes
    for _ in range(LONG // NEW):
        texts.write()
    return {
        "driver_bytes": first,
        "driver_bytes_after": before - gpu.memory()[0],
        "tokens_between": LONG,
        "allocated_bytes": allocated,
        "allocated_bytes_after": engine.device_bytes,
    }


class Rivals:
    """A Llama of the same shape in bf16, and the chain of this model's own products by cuBLAS in bf16."""

    def __init__(self, config: ModelConfig) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        self._config = config
        before = torch.cuda.memory_allocated()
        shape = LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.ffn_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.hidden_size // 128,
        )
        with torch.device("cuda"):
            self._model = LlamaForCausalLM(shape).to(torch.bfloat16).eval()
        self.llama_bytes = torch.cuda.memory_allocated() - before

    @torch.inference_mode()
    def llama(self, batch: int) -> Callable[[], float]:
        """Milliseconds a step of so many texts after a prompt, over NEW replays of one graph."""
        from transformers import StaticCache

        length = PROMPT + NEW
        cache = StaticCache(config=self._model.config, max_cache_len=length)
        ids = torch.randint(0, self._config.vocab_size, (batch, PROMPT), device="cuda")
        self._model(ids, past_key_values=cache, use_cache=True)
        token, place = ids[:, :1].clone(), torch.full((1, 1), PROMPT, device="cuda")

        @torch.inference_mode()
        def rewind() -> None:
            for layer in cache.layers:
                layer.cumulative_length.fill_(PROMPT)

        mask = torch.ones(batch, 1, 1, length, dtype=torch.bool, device="cuda")
        keys = {"position_ids": place, "past_key_values": cache, "attention_mask": mask}

        def step() -> None:
            logits = self._model(token, cache_position=place[0], use_cache=True, **keys).logits
            token.copy_(logits[:, -1:].argmax(-1))

        return graph_ms(step, rewind)

    @torch.inference_mode()
    def chain(self) -> Callable[[], float]:
        """Milliseconds of all products of one token, one after another: each matrix is read from memory once."""
        d, i = self._config.hidden_size, self._config.ffn_size
        shapes = [(3 * d, d), (d, d), (2 * i, d), (d, i)] * self._config.num_hidden_layers
        weights = [torch.randn(shape, device="cuda", dtype=torch.bfloat16) for shape in shapes]
        weights.append(torch.randn(self._config.vocab_size, d, device="cuda", dtype=torch.bfloat16))
        rows = {k: torch.randn(k, device="cuda", dtype=torch.bfloat16) for k in (d, i)}
        return graph_ms(lambda: [torch.mv(weight, rows[weight.shape[1]]) for weight in weights])


def graph_ms(step: Callable[[], object], rewind: Callable[[], None] = lambda: None) -> Callable[[], float]:
    """Capture a step in a CUDA graph; milliseconds a step over NEW replays, from where rewind leads back to."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def replay(_kept: object = step) -> None:  # the step holds the tensors that the graph reads by their addresses
        rewind()
        for _ in range(NEW):
            graph.replay()
        torch.cuda.synchronize()

    def measured() -> float:
        return 1e3 * seconds(replay) / NEW

    return measured


def prompt_ids(config: ModelConfig, count: int) -> list[int]:
    return np.random.default_rng(1).integers(0, config.vocab_size, count).tolist()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spread(values: list[float]) -> Figures:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def write(folder: Path, document: Figures) -> Path:
    """decode_<gpu>_<date>.md, and the raw figures as .json beside it."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    gpu = slug(document["machine"]["gpu"].removeprefix("NVIDIA "))
    path = folder / f"decode_{gpu}_{document['date']}.md"
    write_text(path.with_suffix(".json"), json.dumps(document, indent=1) + "\n")
    write_text(path, report(document))
    return path


if __name__ == "__main__":
    main()

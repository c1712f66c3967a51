"""A whole training step, forward + backward + fused AdamW, of our model and of a Llama of the same shape, interleaved.

    python benchmarks/train/step.py 370m 1.3b [--batches 8x2048,1x8192,1x32768] [--variants a,b] [--seconds 600]
                                    [--profile] [--out FILE]

A batch is sequences x context. Both models have float32 weights and run in bf16 under autocast; the Llama is that of
`unmul train` with model.type = "transformer". Variants: ours, ours-graph, llama, llama-compiled (each layer and the
loss by torch.compile), llama-compiled-graph; "graph" is the step in a CUDA graph, which keeps its memory to the end.
When named, ours-int8 and ours-int8-graph too: backward products in 8 bits, other gradients, so not in "best of ours".
What would pass the time limit is left out and said; results are written after every batch. On a CPU (--device cpu,
shape "tiny") it only shows that it works.

All of the table in one call of ten minutes on an H200 (larger models with fewer graphs, for all are held at once):

    LARGE="--variants ours-graph,llama,llama-compiled"; LONG=1x8192,1x32768
    python benchmarks/train/step.py 370m --batches 8x2048,$LONG --seconds 180 --out OUT/step_370m.json
    python benchmarks/train/step.py 1.3b $LARGE --batches 8x2048,$LONG --seconds 220 --out OUT/step_1.3b.json
    python benchmarks/train/step.py 2.7b $LARGE --batches 4x2048,$LONG --seconds 180 --out OUT/step_2.7b.json
"""

# B sequences, T context

from __future__ import annotations

import argparse
import gc
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from timing import interleaved, write_report

from unmul.config import PRESETS, ModelConfig
from unmul.model import MatMulFreeLM, initialise
from unmul.train.baseline import LlamaLM, compile_blocks
from unmul.train.family import LanguageModel, use_int8_backward
from unmul.train.flops import peak_flops, size

Step = Callable[[], Any]
Notes = dict[str, Any]
SHAPES = PRESETS | {"tiny": ModelConfig(vocab_size=256, hidden_size=64, intermediate_size=96, num_hidden_layers=2)}
VARIANTS = ("ours", "ours-graph", "llama", "llama-compiled", "llama-compiled-graph")
KINDS = {"ours": "matmulfree", "llama": "transformer"}
CLASSES = {  # part of a kernel's name -> class, first match wins
    "_tma_kernel": "product, int8",
    "_pointer_kernel": "product, int8",
    "gemm": "matmul, bf16", "nvjet": "matmul, bf16", "cutlass": "matmul, bf16", "xmma": "matmul, bf16",
    "_scan": "scan",
    "_backward_kernel": "norm, gate, swiglu backward", "_quantise_kernel": "norm, gate, swiglu forward",
    "_row_kernel": "gradient to 8 bits", "_column": "gradient to 8 bits", "_transpose_kernel": "turn operands",
    "_dequantise": "widen operands", "_sum_kernel": "ternarise", "_codes_kernel": "ternarise", "_cross_entropy": "loss",
    "adam": "optimizer", "flash": "attention", "fmha": "attention", "sdpa": "attention", "reduce": "reductions",
    "Memcpy": "copies", "Memset": "copies", "copy": "copies", "embedding": "embedding",
    "triton": "fused by the compiler",
}  # fmt: skip


class OutOfTime(BaseException):
    """Not an Exception: the compiler turns those into its own."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OutOfTime inside after so many seconds, at once when there are none."""
    if seconds <= 0:
        raise OutOfTime

    def stop(number: int, frame: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Subject(NamedTuple):
    """A model and its optimizer, shared by all variants of its kind."""

    model: LanguageModel
    optimizer: torch.optim.Optimizer

    def static_bytes(self) -> int:
        moments = (value for state in self.optimizer.state.values() for value in state.values())
        return sum(tensor.nbytes for tensor in (*self.model.parameters(), *moments))


def make_subject(kind: str, shape: ModelConfig, device: torch.device) -> Subject:
    with device:
        model = MatMulFreeLM(shape) if kind == "matmulfree" else LlamaLM(shape)
    if isinstance(model, LlamaLM):
        compile_blocks(model)  # at the first call whose stance allows it
    else:
        initialise(model)
    cuda = device.type == "cuda"
    return Subject(model, torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True, capturable=cuda))


def make_step(subject: Subject, ids_BT: torch.Tensor, *, compiled: bool, int8_backward: bool) -> Step:
    """One training step on the same batch; returns the loss on the device."""
    model, optimizer = subject

    def step() -> torch.Tensor:
        if isinstance(model, MatMulFreeLM):
            use_int8_backward(model, int8_backward)
        optimizer.zero_grad(set_to_none=True)
        stance = "default" if compiled else "force_eager"
        with torch.compiler.set_stance(stance), torch.autocast(ids_BT.device.type, torch.bfloat16):
            value = model.loss(ids_BT[:, :-1], ids_BT[:, 1:])
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def capture(step: Step) -> Step:
    """The step as a CUDA graph; warm it up before."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    release()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def release() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def prepare(name: str, subject: Subject, ids_BT: torch.Tensor, notes: Notes) -> Step:
    """The variant, warm; notes receive seconds and loss of its first step, and its peak memory without the others'."""
    cuda = ids_BT.is_cuda
    if name.endswith("graph") and not cuda:
        raise RuntimeError("graphs need CUDA")
    subject.optimizer.zero_grad(set_to_none=True)
    release()
    others = 0
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        others = torch.cuda.memory_allocated() - subject.static_bytes()
    began = time.perf_counter()
    step = make_step(subject, ids_BT, compiled="compiled" in name, int8_backward="int8" in name)
    notes["first_loss"] = float(step())
    notes["first_step_s"] = time.perf_counter() - began
    step = capture(step) if name.endswith("graph") else step
    step()
    if cuda:
        torch.cuda.synchronize()
        notes["peak_GiB"] = (torch.cuda.max_memory_allocated() - others) / 2**30
    return step


def profile(step: Step) -> dict[str, dict[str, float]]:
    """Milliseconds and launches of one step by class of kernel."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as trace:
        step()
        torch.cuda.synchronize()
    classes: dict[str, dict[str, float]] = defaultdict(lambda: {"ms": 0.0, "launches": 0})
    for event in trace.key_averages():
        if event.device_type != torch.autograd.DeviceType.CUDA:
            continue
        kind = next((kind for part, kind in CLASSES.items() if part.lower() in event.key.lower()), "elementwise")
        classes[kind]["ms"] += event.self_device_time_total / 1e3
        classes[kind]["launches"] += event.count
    return dict(sorted(classes.items(), key=lambda item: -item[1]["ms"]))


class Bench:
    """Everything about one shape; `left` says how many seconds there still are."""

    def __init__(self, shape: ModelConfig, options: argparse.Namespace, left: Callable[[], float]) -> None:
        self.shape, self.options, self.left = shape, options, left
        self.device = torch.device(options.device)
        self.subjects: dict[str, Subject] = {}

    def batch(self, sequences: int, context: int) -> dict[str, Notes]:
        """Notes of every variant on one batch: figures, or why there are none."""
        ids_BT = torch.randint(0, self.shape.vocab_size, (sequences, context + 1), device=self.device)
        notes: dict[str, Notes] = {name: {} for name in self.options.variants.split(",")}
        steps: dict[str, Step] = {}
        for name in notes:
            step = self._attempt([notes[name]], self._prepare, name, ids_BT, notes[name])
            if step is not None:
                steps[name] = step
            print(f"  {name}: {notes[name]}", flush=True)
        self._attempt([notes[name] for name in steps], self._time, steps, notes, sequences, context)
        return notes

    def _prepare(self, name: str, ids_BT: torch.Tensor, notes: Notes) -> Step:
        kind = KINDS[name.partition("-")[0]]
        if kind not in self.subjects:
            self.subjects[kind] = make_subject(kind, self.shape, self.device)
        return prepare(name, self.subjects[kind], ids_BT, notes)

    def _time(self, steps: Mapping[str, Step], notes: dict[str, Notes], sequences: int, context: int) -> None:
        peak = peak_flops(self.device)
        for name, timing in interleaved(steps, self.options.rounds).items():
            rate = sequences * context / timing["median_ms"] * 1e3
            flops = size(KINDS[name.partition("-")[0]], self.shape, context).flops_per_token
            notes[name] |= {**timing, "tokens_per_s": rate, "mfu": rate * flops / peak if peak else None}
        if self.options.profile:
            for name, step in steps.items():
                notes[name]["profile"] = profile(step)

    def _attempt(self, notes: list[Notes], part: Callable[..., Any], *inputs: Any) -> Any:
        """The part's result; one that cannot run, or not in time, must not take the others with it, and says so."""
        try:
            with limited(min(self.left(), self.options.part_seconds)):
                return part(*inputs)
        except OutOfTime:
            for note in notes:
                note["skipped"] = "no time left"
        except Exception as problem:
            for note in notes:
                note["failed"] = f"{type(problem).__name__}: {str(problem)[:300]}"


def show(title: str, notes: dict[str, Notes]) -> None:
    """The figures of a batch as lines, with how they compare."""
    for name, note in notes.items():
        if "median_ms" not in note:
            print(f"{title} {name:20s} {note.get('skipped') or note.get('failed')}")
            continue
        spread = f"[{note['min_ms']:.1f}-{note['max_ms']:.1f}]"
        share = f"  MFU {note['mfu']:.1%}" if note["mfu"] else ""
        memory = f"  {note['peak_GiB']:.1f} GiB" if "peak_GiB" in note else ""
        rate = f"{note['tokens_per_s']:9,.0f} tokens/s"
        print(f"{title} {name:20s} {note['median_ms']:8.1f} ms {spread} {rate}{share}{memory}")
        for kind, row in note.get("profile", {}).items():
            print(f"    {kind:30s} {row['ms']:8.2f} ms {row['launches']:6.0f}")
    ours, llama = (best_rate(notes, side) for side in KINDS)
    if ours and llama:
        print(f"{title} best of ours / best Llama: {ours / llama:.2f}", flush=True)


def best_rate(notes: dict[str, Notes], side: str) -> float:
    """Tokens a second of the fastest variant whose gradients are not rounded to 8 bits."""
    names = (name for name in notes if name.startswith(side) and "int8" not in name)
    return max((notes[name].get("tokens_per_s", 0.0) for name in names), default=0.0)


def parse_batch(text: str) -> tuple[int, int]:
    sequences, _, context = text.partition("x")
    return int(sequences), int(context)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=sorted(SHAPES))
    parser.add_argument("--batches", default="8x2048", help="sequences x context, with commas between")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=600.0, help="for everything")
    parser.add_argument("--part-seconds", type=float, default=120.0, help="for preparing or timing one part")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    batches = [parse_batch(text) for text in options.batches.split(",")]
    setting = {key: getattr(options, key) for key in ("models", "batches", "rounds", "device")}
    results: dict[str, dict[str, dict[str, Notes]]] = {}
    for model in options.models:
        torch.manual_seed(0)
        shape = replace(SHAPES[model], max_position_embeddings=max(context for _, context in batches))
        bench = Bench(shape, options, lambda: deadline - time.monotonic())
        results[model] = {}
        for sequences, context in batches:
            results[model][f"{sequences}x{context}"] = bench.batch(sequences, context)
            show(f"{model} {sequences}x{context}", results[model][f"{sequences}x{context}"])
            if options.out:
                write_report(options.out, {**setting, "results": results})
        del bench
        release()


if __name__ == "__main__":
    main()

"""A whole training step, forward + backward + fused AdamW, of our model and of a Llama of the same shape, interleaved.

    python benchmarks/train/step.py 1.3b [--tokens 16384] [--context 2048] [--variants a,b] [--profile] [--out FILE]

Both have float32 weights and run in bf16 under autocast; the Llama is transformers', with scaled dot product attention
and heads of 128. Variants: ours, ours-graph, llama, llama-compiled, llama-compiled-graph (the step in a CUDA graph).
"""

# B sequences, T context

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from timing import interleaved, write_report

from unmul.config import PRESETS, ModelConfig
from unmul.model import MatMulFreeLM, initialise

Loss = Callable[[torch.Tensor], torch.Tensor]
VARIANTS = ("ours", "ours-graph", "llama", "llama-compiled", "llama-compiled-graph")
CLASSES = {  # part of a kernel's name -> class, first match wins
    "_tma_kernel": "product, int8",
    "_pointer_kernel": "product, int8",
    "gemm": "matmul, bf16", "nvjet": "matmul, bf16", "cutlass": "matmul, bf16", "xmma": "matmul, bf16",
    "_scan": "scan",
    "_backward_kernel": "norm, gate, swiglu backward", "_quantise_kernel": "norm, gate, swiglu forward",
    "_dequantise": "widen operands", "_sum_kernel": "ternarise", "_codes_kernel": "ternarise", "_cross_entropy": "loss",
    "adam": "optimizer", "flash": "attention", "fmha": "attention", "sdpa": "attention", "reduce": "reductions",
    "Memcpy": "copies", "Memset": "copies", "copy": "copies", "embedding": "embedding",
    "triton": "fused by the compiler",
}  # fmt: skip


def our_loss(config: ModelConfig) -> tuple[torch.nn.Module, Loss]:
    model = MatMulFreeLM(config).cuda()
    initialise(model)
    return model, lambda ids_BT: model.loss(ids_BT[:, :-1], ids_BT[:, 1:])


def llama_loss(config: ModelConfig) -> tuple[torch.nn.Module, Loss]:
    shape = LlamaConfig(
        vocab_size=config.vocab_size, hidden_size=config.hidden_size, intermediate_size=config.ffn_size,
        num_hidden_layers=config.num_hidden_layers, num_attention_heads=config.hidden_size // 128,
        max_position_embeddings=65536, use_cache=False, attn_implementation="sdpa",
    )  # fmt: skip
    with torch.device("cuda"):
        model = LlamaForCausalLM(shape)

    def loss(ids_BT: torch.Tensor) -> torch.Tensor:
        logits_BTV = model(ids_BT[:, :-1]).logits
        return torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1).float(), ids_BT[:, 1:].flatten())

    return model, loss


def make_step(model: torch.nn.Module, loss: Loss, ids_BT: torch.Tensor) -> Callable[[], torch.Tensor]:
    """One training step on the same batch; returns the loss on the device."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True, capturable=True)

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            value = loss(ids_BT)
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def capture(step: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """The step as a CUDA graph; warm it up before."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    gc.collect()
    torch.cuda.empty_cache()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def build(names: list[str], config: ModelConfig, ids_BT: torch.Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
    """Steps ready to run, and for each variant first-step seconds and peak memory or the reason why it failed."""
    steps: dict[str, Any] = {}
    notes: dict[str, Any] = defaultdict(dict)
    for family, make in (("ours", our_loss), ("llama", llama_loss)):
        if not any(name.startswith(family) for name in names):
            continue
        model, loss = make(config)
        compiled = torch.compile(loss)
        for name in [name for name in names if name.startswith(family)]:
            try:
                model.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
                others = torch.cuda.memory_allocated() - sum(p.nbytes for p in model.parameters())
                began = time.perf_counter()
                step = make_step(model, compiled if "compiled" in name else loss, ids_BT)
                first = float(step())
                notes[name] |= {"first_step_s": time.perf_counter() - began, "first_loss": first}
                steps[name] = capture(step) if name.endswith("graph") else step
                steps[name]()
                torch.cuda.synchronize()
                notes[name]["peak_GiB"] = (torch.cuda.max_memory_allocated() - others) / 2**30
            except Exception as problem:  # one variant that cannot run must not take the others with it
                notes[name]["failed"] = f"{type(problem).__name__}: {str(problem)[:300]}"
                steps.pop(name, None)
            print(name, dict(notes[name]), flush=True)
    return steps, notes


def profile(step: Callable[[], Any]) -> dict[str, dict[str, float]]:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=sorted(PRESETS))
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    config = PRESETS[options.model]
    shape = (options.tokens // options.context, options.context + 1)
    steps, notes = build(options.variants.split(","), config, torch.randint(0, config.vocab_size, shape, device="cuda"))
    for name, timing in interleaved(steps, options.rounds).items():
        rate = options.tokens / timing["median_ms"] * 1e3
        notes[name] |= {**timing, "tokens_per_s": rate}
        spread = f"[{timing['min_ms']:.1f}-{timing['max_ms']:.1f}]"
        print(f"{options.model} {name:22s} {timing['median_ms']:8.1f} ms {spread} {rate:9.0f} tok/s", flush=True)
    if options.profile:
        for name in steps:
            notes[name]["profile"] = profile(steps[name])
            for kind, row in notes[name]["profile"].items():
                print(f"  {name:16s} {kind:30s} {row['ms']:8.2f} ms {row['launches']:6.0f}")
    if options.out:
        setting = {key: getattr(options, key) for key in ("model", "tokens", "context", "rounds")}
        write_report(options.out, {**setting, "variants": notes})


if __name__ == "__main__":
    main()

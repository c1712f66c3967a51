"""One measured round of llama.cpp on a GGUF file, in a process of its own: a prompt, then decode from an empty context,
as llama-bench has it: there its attention costs least.

Usage: python benchmarks/decode/llamacpp.py FILE THREADS PROMPT NEW  ->  one JSON line with tokens/s
"""

from __future__ import annotations

import ctypes
import json
import sys
import time

import llama_cpp as llama

BATCH = 512


def main(path: str, threads: int, prompt: int, new: int) -> None:
    """Load, read a warm-up token, time the prompt, and the new tokens one by one."""
    model, context = _open(path, threads, prompt + new + 8)
    _decode(context, [1])
    _forget(context)
    ids = [(7 * k + 11) % 30000 for k in range(prompt)]
    start = time.perf_counter()
    for first in range(0, prompt, BATCH):
        _decode(context, ids[first : first + BATCH])
    prefill_s = time.perf_counter() - start
    _forget(context)
    start = time.perf_counter()
    for k in range(new):
        _decode(context, [(13 * k + 5) % 30000])
    print(json.dumps({"prefill": prompt / prefill_s, "decode": new / (time.perf_counter() - start)}))
    llama.llama_free(context)
    llama.llama_model_free(model)


def _forget(context: object) -> None:
    llama.llama_memory_clear(llama.llama_get_memory(context), True)


def _open(path: str, threads: int, length: int) -> tuple[object, object]:
    llama.llama_log_set(_silent, ctypes.c_void_p(0))
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    if not model:
        raise SystemExit(f"{path}: llama.cpp cannot load it")
    params = llama.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = length, BATCH, BATCH
    params.n_threads = params.n_threads_batch = threads
    return model, llama.llama_init_from_model(model, params)


@llama.llama_log_callback
def _silent(level: int, text: bytes, data: object) -> None:
    return None


def _decode(context: object, ids: list[int]) -> None:
    tokens = (llama.llama_token * len(ids))(*ids)  # the batch only points at it
    if llama.llama_decode(context, llama.llama_batch_get_one(tokens, len(ids))):
        raise SystemExit("llama_decode failed")
    llama.llama_synchronize(context)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

"""The report of gpu.py: its figures beside what was asked for and what bytes alone would take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["report"]

Figures = dict[str, Any]

# Milliseconds of one text's token on an H200: the published generate(), the target and the stretch target.
AIMS = {"370m": (61.9, 0.35, 0.15), "1.3b": (83.5, 0.55, 0.25), "2.7b": (81.5, 0.90, 0.40)}
DECODE_COLUMNS = [
    "model", "texts", "ours", "tokens/s", "bytes of weights alone", "Llama bf16, CUDA graph",
    "cuBLAS bf16, products alone", "J a token, ours / Llama",
]  # fmt: skip
MEMORY_COLUMNS = [
    "model", "weights", "after the first texts", "after further tokens of context",
    "allocated by the engine, before / after", "Llama's weights",
]  # fmt: skip
PAPER_13B = (
    "The paper's 13B: 695 ms and 4.19 GB, a latency of a whole sequence on other hardware, so no comparison of speed."
)


def report(document: Figures) -> str:
    """Markdown of all that was measured so far."""
    where = document["machine"]
    lines = [
        f"# CUDA engine on one {where['gpu']}, {document['date']}",
        "",
        f"Driver {where['driver']}, torch {where['torch']}, commit {document['commit']}.",
        "Random ternary weights, prompt 128, medians [least, most] of 5 rounds in which all take turns.",
        "Checked first: logits and states equal the CPU engine's to the bit.",
        "",
        f"    {' '.join(document['command'])}",
        "",
        *decode_table(document["models"]),
        *prefill_table(document["models"]),
        *memory_table(document["models"]),
        PAPER_13B,
    ]
    if document["left_out"]:
        lines.append(f"Left out for lack of time: {', '.join(document['left_out'])}.")
    return "\n".join(lines) + "\n"


def decode_table(models: list[Figures]) -> Iterator[str]:
    """A row for each shape and batch."""
    yield "## Decode: ms a step"
    yield line(DECODE_COLUMNS)
    yield "|---|---|---|---|---|---|---|---|"
    for model in models:
        bound = model["weight_bytes"] / model["copy_GBs"] / 1e6
        for row in model["decode"]:
            ours, energy = row["ms"]["ours"], row["joules_per_token"]
            rate = 1e3 * row["batch"] / ours["median"]
            cells = [model["model"], row["batch"], found(ours), f"{rate:,.0f}", f"{bound:.3f}"]
            cells += [found(row["ms"].get("llama")), found(row["ms"].get("cublas chain"))]
            yield line([*cells, f"{joules(energy.get('ours'))} / {joules(energy.get('llama'))}"])
    yield ""
    yield "| one text | published generate() | must reach | stretch | ours | drawn with temperature 0.8, top_p 0.95 |"
    yield "|---|---|---|---|---|---|"
    for model in models:
        if model["model"] in AIMS:
            aims = (f"{aim:g}" for aim in AIMS[model["model"]])
            yield line([model["model"], *aims, found(model["decode"][0]["ms"]["ours"]), found(model.get("sampled"))])
    yield ""
    yield from ratios(models)


def ratios(models: list[Figures]) -> Iterator[str]:
    """16 texts against one."""
    for model in models:
        steps = {row["batch"]: row["ms"]["ours"]["median"] for row in model["decode"]}
        if 16 in steps:
            yield f"{model['model']}: a step of 16 texts takes {steps[16] / steps[1]:.2f} times that of one."
    yield ""


def prefill_table(models: list[Figures]) -> Iterator[str]:
    """A row for each shape."""
    yield "## Prefill of one prompt"
    yield "| model | tokens | tokens/s |"
    yield "|---|---|---|"
    for model in models:
        if "prefill" in model:
            rate = model["prefill"]["tokens_per_s"]
            spread = f"{rate['median']:,.0f} [{rate['least']:,.0f}, {rate['most']:,.0f}]"
            yield line([model["model"], model["prefill"]["tokens"], spread])
    yield ""


def memory_table(models: list[Figures]) -> Iterator[str]:
    """A row for each shape."""
    yield "## Memory beyond the context's own, MiB as the driver counts"
    yield line(MEMORY_COLUMNS)
    yield "|---|---|---|---|---|---|"
    for model in models:
        memory = model["memory"]
        yield line(
            [
                model["model"],
                mebibytes(model["weight_bytes"]),
                mebibytes(memory["driver_bytes"]),
                f"{mebibytes(memory['driver_bytes_after'])} ({memory['tokens_between']:,} tokens)",
                f"{mebibytes(memory['allocated_bytes'])} / {mebibytes(memory['allocated_bytes_after'])}",
                mebibytes(model["llama_bytes"]) if "llama_bytes" in model else "-",
            ]
        )
    yield ""
    yield "No allocation depends on the length of a text (the state has one size), so a million tokens take the same."
    yield ""


def line(cells: list[Any]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def found(time: Figures | None) -> str:
    return "-" if time is None else f"{time['median']:.3f} [{time['least']:.3f}, {time['most']:.3f}]"


def joules(value: float | str | None) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "-"


def mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f}"

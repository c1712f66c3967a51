"""unmul bench: how fast a packed model runs on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from unmul.cli.output import emit, megabytes, note, rows
from unmul.config import preset as preset_config
from unmul.engine.bench import BenchReport, BenchRequest, measure, write_random
from unmul.errors import UsageError
from unmul.runtime import embedded_model

__all__ = ["bench"]


def bench(
    model: Path | None = None,
    /,
    *,
    preset: str | None = None,
    threads: Annotated[int | None, Parameter(name=("--threads", "-t"))] = None,
    prompt: int = 512,
    new: int = 128,
    batch: int = 1,
    profile: bool = False,
    device: Literal["cpu", "cuda"] = "cpu",
    json: bool = False,
) -> None:
    """Measure prefill and decode speed, bandwidth, peak memory and energy.

    Args:
        model: a packed checkpoint folder; the embedded model when left out.
        preset: instead of a folder, the shape of a published model (370m, 1.3b, 2.7b) filled with random weights.
        threads: one for each core when left out, one for a small model.
        prompt: tokens read at once.
        new: tokens read one by one after the prompt.
        batch: sequences that are read together after the prompt; decode counts the tokens of all.
        profile: also measure where the time goes, on the CPU.
        device: where the model runs: cpu, or cuda for an NVIDIA GPU.
        json: write one JSON document instead of text.
    """
    if model is not None and preset is not None:
        raise UsageError(f"bench was given both {model} and --preset {preset}", "give one of them")
    request = BenchRequest(threads=threads, prompt=prompt, new=new, batch=batch, profile=profile, device=device)
    with _folder(model, preset) as folder:
        report = measure(folder, request)
    if json:
        emit({"model": preset or str(model or "embedded"), **asdict(report)})
    else:
        print(rows(_lines(report)))


@contextmanager
def _folder(model: Path | None, preset: str | None) -> Iterator[Path]:
    if preset is None:
        yield model or embedded_model()
        return
    config = preset_config(preset)
    with tempfile.TemporaryDirectory(prefix="unmul-bench-") as temporary:
        note(f"writing random weights in the shape of {preset}")
        write_random(Path(temporary) / "model", config)
        yield Path(temporary) / "model"


def _lines(report: BenchReport) -> list[tuple[str, str]]:
    return [
        ("backend", report.backend),
        ("prefill", _rate(report.prefill_tokens_per_s, report.prefill_spread, report.prompt_tokens)),
        ("decode", _rate(report.decode_tokens_per_s, report.decode_spread, report.new_tokens * report.batch)),
        ("weights", f"{megabytes(report.weight_bytes)} in memory, {megabytes(report.file_bytes)} on disk"),
        ("bandwidth", _bandwidth(report)),
        ("peak memory", megabytes(report.peak_rss_bytes)),
        *([("on the GPU", megabytes(report.device_bytes))] if report.device_bytes is not None else []),
        ("energy", _energy(report)),
        *[(f"{name} phases", _phases(seconds)) for name, seconds in (report.profile or {}).items()],
    ]


def _bandwidth(report: BenchReport) -> str:
    whose = "these threads read" if report.device_bytes is None else "a copy on the GPU moves"
    share = f"{report.bandwidth_share:.0%} of the {report.machine_GBs:.1f} that {whose}"
    return f"{report.bandwidth_GBs:.1f} GB/s in decode, {share}"


def _energy(report: BenchReport) -> str:
    if report.joules_per_token is None:
        return f"not measured: {report.joules_reason}"
    above = report.joules_per_token_above_idle or 0.0
    joules = f"{report.joules_per_token:.2g} J a token in decode, {above:.2g} J above idle ({report.idle_watts:.1f} W)"
    return f"{joules}; {report.joules_source}"


def _phases(seconds: dict[str, float]) -> str:
    total = sum(seconds.values())
    falling = sorted(seconds.items(), key=lambda item: -item[1])
    return f"{1e6 * total:.0f} us a token: " + ", ".join(f"{phase} {spent / total:.0%}" for phase, spent in falling)


def _rate(rate: float, spread: list[float], tokens: int) -> str:
    return f"{rate:.1f} tokens/s over {tokens} tokens (median; {spread[0]:.1f} to {spread[1]:.1f})"

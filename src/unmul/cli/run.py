"""unmul run: text out of a packed model."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from unmul.cli.output import emit, megabytes, note
from unmul.cli.usage import check_count
from unmul.engine.sampler import SamplingParams
from unmul.errors import UsageError
from unmul.machine import peak_rss_bytes

if TYPE_CHECKING:
    from unmul.runtime import Model

__all__ = ["run"]


def run(
    model: Path | None = None,
    /,
    *,
    prompt: Annotated[str | None, Parameter(name=("--prompt", "-p"))] = None,
    new: Annotated[int, Parameter(name=("--new", "-n"))] = 128,
    temp: float = 0.8,
    top_p: float = 0.95,
    top_k: int = 0,
    seed: int | None = None,
    threads: Annotated[int | None, Parameter(name=("--threads", "-t"))] = None,
    device: Literal["cpu", "cuda"] = "cpu",
    json: bool = False,
) -> None:
    """Write text with a packed model. Without a prompt on a terminal, a session begins that keeps its context.

    Args:
        model: folder of a packed model; without it, the model that comes with unmul.
        prompt: the text to go on from; without it, it is read from a pipe.
        new: most tokens to write for a prompt.
        temp: temperature; 0 always takes the likeliest token.
        top_p: keep the likeliest tokens that together reach this probability.
        top_k: keep this many of the likeliest tokens; 0 keeps all.
        seed: the same seed gives the same text.
        threads: one for each core when left out, one for a small model.
        device: where the model runs: cpu, or cuda for an NVIDIA GPU.
        json: write one JSON document instead of text.
    """
    check_count("-n", new)
    sampling = SamplingParams(temperature=temp, top_k=top_k, top_p=top_p, seed=seed)
    session = prompt is None and sys.stdin.isatty()
    if session and json:
        raise UsageError("--json without a prompt", "add -p TEXT, or pipe a text in")
    text = None if session else _checked(_piped() if prompt is None else prompt)
    loaded, load_s = _load(model, device, threads)
    options: dict[str, Any] = {"max_new_tokens": new, "sampling": sampling}
    if text is None:
        _converse(loaded, options)
    elif json:
        emit({"text": "".join(loaded.generate(text, **options)), **_figures(loaded), "load_s": load_s})
    else:
        _write(loaded, text, options)


def _load(folder: Path | None, device: str, threads: int | None) -> tuple[Model, float]:
    """The model, ready for text, and the seconds that it took."""
    start = time.perf_counter()
    from unmul.runtime import load  # here, so that a wrong flag is answered at once

    model = load(folder, device=device, threads=threads)
    _ = model.tokenizer
    return model, time.perf_counter() - start


def _checked(prompt: str) -> str:
    if not prompt:
        raise UsageError("the prompt is empty", "give some text to go on from: -p TEXT")
    return prompt


def _piped() -> str:
    """The prompt from standard input, without the newline that ends its last line."""
    try:
        return sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not UTF-8 at byte {error.start}", "convert it to UTF-8") from None


def _write(model: Model, prompt: str, options: dict[str, Any]) -> None:
    if sys.stdout.isatty():  # on a terminal the text reads on from its prompt; a pipe gets the new text alone
        print(prompt, end="", flush=True)
    for piece in model.generate(prompt, **options):
        print(piece, end="", flush=True)
    print(flush=True)
    note(_summary(model))


def _converse(model: Model, options: dict[str, Any]) -> None:
    """Read lines and go on from each, with the state of all before; Ctrl-C ends an answer, Ctrl-D the session."""
    import readline  # noqa: F401 - gives input() editing and history

    size = megabytes(model.weight_bytes)
    note(f"{model.folder.name}: {size}, {model.backend}. Ctrl-C stops an answer, Ctrl-D leaves.")
    begun = False
    while (line := _ask()) is not None:
        if not line:
            continue
        try:
            for piece in model.generate("\n" + line if begun else line, resume=begun, **options):
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            pass
        print(flush=True)
        begun = True


def _ask() -> str | None:
    """The next line; empty after Ctrl-C, None after Ctrl-D."""
    try:
        return input("> ")
    except KeyboardInterrupt:
        print()
        return ""
    except EOFError:
        print()
        return None
    except UnicodeDecodeError:
        raise UsageError("the terminal sent bytes that are not UTF-8", "set a UTF-8 locale") from None


def _figures(model: Model) -> dict[str, Any]:
    last = model.last
    return {
        "prompt_ids": last.prompt_ids,
        "new_ids": last.new_ids,
        "prefill_tokens_per_s": last.prefill_tokens_per_s,
        "decode_tokens_per_s": last.decode_tokens_per_s,
        "peak_rss_bytes": peak_rss_bytes(),
        "backend": model.backend,
    }


def _summary(model: Model) -> str:
    last = model.last
    return " | ".join(
        (
            f"prompt {len(last.prompt_ids)} tokens at {last.prefill_tokens_per_s:,.0f}/s",
            f"text {len(last.new_ids)} tokens at {last.decode_tokens_per_s:,.0f}/s",
            f"model {megabytes(model.weight_bytes)}",
            f"state {megabytes(model.state.nbytes)}",
            f"peak memory {megabytes(peak_rss_bytes())}",
            model.backend,
        )
    )

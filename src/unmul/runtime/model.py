"""unmul.load and what it returns: generate text, ask for logits, keep and carry the state."""

# T tokens, V vocabulary, L layers, E width of the token mixer

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from unmul.config import ModelConfig
from unmul.engine import open_engine
from unmul.engine.base import Engine, FloatArray, Writer
from unmul.engine.sampler import SamplingParams
from unmul.errors import CheckpointError, UsageError
from unmul.runtime.ahead import write_ahead
from unmul.runtime.answer import Answer, checked_stops
from unmul.runtime.state import check_state, fingerprint, read_state, write_state
from unmul.runtime.text import encode, folder_tokenizer

__all__ = ["DEFAULT_MODEL", "Generation", "Model", "embedded_model", "load", "tiny_model"]

ASSETS = Path(__file__).parent.parent / "assets"
DEFAULT_MODEL, TINY_MODEL = ASSETS / "open-english", ASSETS / "tales-tiny"


def load(path: str | Path | None = None, *, device: str = "cpu", threads: int | None = None) -> Model:
    """Load a packed folder, or the embedded model.

    Args:
        path: the folder that `unmul pack` wrote; None is the model that comes with unmul.
        device: "cpu" or "cuda".
        threads: None takes one for each core.

    Raises:
        CheckpointError: the folder is not there, damaged or not packed.
    """
    folder = embedded_model() if path is None else Path(path)
    return Model(folder, open_engine(folder, device=device, threads=threads))


def embedded_model() -> Path:
    """The folder of the model that comes with unmul; CheckpointError where it was left out."""
    return _there(DEFAULT_MODEL)


def tiny_model() -> Path:
    """The folder of the small model that comes with unmul, 1.2 MB: for simulated hardware, and to go on training."""
    return _there(TINY_MODEL)


def _there(folder: Path) -> Path:
    if not folder.is_dir():
        raise CheckpointError(f"this installation has no model {folder.name}", "give the folder of a packed model")
    return folder


@dataclass(slots=True)
class Generation:
    """What one call of generate read and wrote, and the seconds that the engine took for it."""

    prompt_ids: list[int]
    new_ids: list[int] = field(default_factory=list)
    prefill_s: float = 0.0
    decode_s: float = 0.0

    @property
    def prefill_tokens_per_s(self) -> float:
        """Prompt tokens read a second."""
        return len(self.prompt_ids) / self.prefill_s if self.prefill_s else 0.0

    @property
    def decode_tokens_per_s(self) -> float:
        """New tokens sampled and read a second."""
        return len(self.new_ids) / self.decode_s if self.decode_s else 0.0


class Model:
    """A loaded model and the state of one conversation with it."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder = folder
        self.last = Generation([])
        self._engine = engine
        self._state = engine.new_state()

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self._engine.config

    @property
    def backend(self) -> str:
        """What runs, for people: "cpu avx512vnni, 2 threads"."""
        return self._engine.backend

    @property
    def weight_bytes(self) -> int:
        """Size of the weight files on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the folder, read when text first needs it; TokenizerError where there is none."""
        return folder_tokenizer(self.folder, self.config)

    @property
    def state(self) -> FloatArray:
        """A copy of the state [L, E]: all that the model remembers of the text so far."""
        return self._state.copy()

    @state.setter
    def state(self, state: FloatArray) -> None:
        self._state = check_state(state, self._engine.new_state()).copy()

    def save_state(self, path: str | Path) -> None:
        """Write the state to a file."""
        write_state(Path(path), self._state, fingerprint(self.folder))

    def load_state(self, path: str | Path) -> None:
        """Go on from a state that save_state of the same model wrote."""
        self._state = read_state(Path(path), self._state, fingerprint(self.folder))

    def logits(self, ids: Sequence[int]) -> FloatArray:
        """Logits [T, V] in float32 after each of T token ids, read from an empty state; the kept state stays."""
        return self._engine.forward(ids, self._engine.new_state(), every=True)

    def generate(
        self,
        prompt: str,
        *,
        max_new_tokens: int = 128,
        sampling: SamplingParams = SamplingParams(),  # noqa: B008 - frozen
        stop: str | Sequence[str] = (),
        resume: bool = False,
    ) -> Iterator[str]:
        """Go on with the prompt; yields pieces of text as they become certain, up to the end token.

        Args:
            stop: strings that end the text; they are not part of it.
            resume: keep the state of the text so far; else the prompt begins a new one.

        Raises:
            UsageError: the prompt is empty, or a number or stop string makes no sense.
            TokenizerError: the folder has no tokenizer.
        """
        if not prompt:
            raise UsageError("the prompt is empty", "give at least one character to go on from")
        ids = encode(self.tokenizer, prompt, begin=None if resume else self.config.begin_token_id)
        end = self.config.eos_token_id
        answer = Answer(self.tokenizer, ids, sampling, limit=max_new_tokens, stop=checked_stops(stop), end=end)
        if not resume:
            self._state = self._engine.new_state()
        self.last = Generation(ids, answer.ids)
        return self._stream(self.last, answer)

    def _stream(self, run: Generation, answer: Answer) -> Iterator[str]:
        start = time.perf_counter()
        logits = self._engine.forward(run.prompt_ids, self._state)
        run.prefill_s = time.perf_counter() - start
        pieces = self._write(answer, logits)
        start = time.perf_counter()
        for piece in pieces:
            run.decode_s += time.perf_counter() - start
            if piece:
                yield piece
            start = time.perf_counter()
        run.decode_s += time.perf_counter() - start

    def _write(self, answer: Answer, logits: FloatArray) -> Iterator[str]:
        """A piece, perhaps empty, for each token, which the state has then read or will have when the iterator ends."""
        if isinstance(self._engine, Writer):
            yield from write_ahead(self._engine, self._state, answer, logits)
            return
        while answer.finish is None:
            token, piece = answer.extend(logits)
            if token is not None:
                logits = self._engine.forward([token], self._state)
            yield piece

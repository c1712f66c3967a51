"""What tests of the server share: servers on free ports, and an engine whose next token gives away all it has read."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from unmul import SamplingParams
from unmul.config import ModelConfig
from unmul.runtime.answer import Answer
from unmul.serve.run import Server, listen
from unmul.serve.scheduler import Failed, Job, PromptRead, Written
from unmul.serve.service import Limits

__all__ = [
    "ARITHMETIC",
    "CHAT_TEMPLATE",
    "Arithmetic",
    "Joulemeter",
    "Letters",
    "Log",
    "chatting",
    "job_for",
    "serving",
    "settled",
    "slowed",
]

CHAT_TEMPLATE = """{% for message in messages %}{% if message.role == 'judge' %}{{ raise_exception('no judges') }}
{% endif %}<{{ message.role }}>{{ message.content }}
{% endfor %}<assistant>"""
LONGEST_S = 30

ARITHMETIC = ModelConfig(vocab_size=251, hidden_size=3, num_hidden_layers=1, bos_token_id=0, eos_token_id=250)
PRIME = 65521  # small enough for exact products in float32's 24 bits times 31


class Joulemeter:
    """A meter that counts a joule at every look; unmeasured, one that says why it does not."""

    def __init__(self, *, measured=True):
        self.source, self.reason = ("a counter", "") if measured else (None, "no counter here")
        self.counted = 0.0

    def joules(self):
        if self.source is None:
            return None
        self.counted += 1
        return self.counted

    def close(self):
        pass


class Letters:
    """A tokenizer without a vocabulary: each token is one letter."""

    def decode(self, ids, skip_special_tokens=True):
        return "".join(chr(0x100 + token) for token in ids)


class Arithmetic:
    """An engine whose state is a checksum of every token read, and whose likeliest token follows from it alone.

    A token too many, too few, twice or from another text changes everything after it.
    """

    config = ARITHMETIC
    backend = "arithmetic"

    def __init__(self):
        self.passes = []  # tokens of each call of forward, or minus the number of texts of each step
        self.breaks_at = None  # a token that cannot be read

    def new_state(self):
        return np.zeros((1, 3), np.float32)

    def forward(self, ids, state, *, every=False):
        self.passes.append(len(ids))
        rows = [self._read(token, state) for token in ids]
        return np.stack(rows) if every else rows[-1]

    def step(self, ids, states):
        self.passes.append(-len(ids))
        return np.stack([self._read(token, state) for token, state in zip(ids, states, strict=True)])

    def _read(self, token, state):
        if token == self.breaks_at:
            raise ArithmeticError("broken")
        state[0, 0] = (int(state[0, 0]) * 31 + token + 1) % PRIME
        return np.eye(1, ARITHMETIC.vocab_size, int(state[0, 0]) % 250, np.float32)[0] * 9


class Log(list):
    """The events of a job, in order, and what was kept of it."""

    def __init__(self):
        super().__init__()
        self.kept = []
        self.ended = threading.Event()

    def __call__(self, event):
        self.append(event)
        if isinstance(event, Failed) or getattr(event, "finish", None):
            self.ended.set()

    @property
    def tokens(self):
        return [event.token for event in self if isinstance(event, Written) and event.token is not None]

    @property
    def finish(self):
        return next((event.finish for event in self if isinstance(event, Written) and event.finish), None)

    @property
    def cached(self):
        return next(event.cached for event in self if isinstance(event, PromptRead))

    @property
    def error(self):
        return next((event.error for event in self if isinstance(event, Failed)), None)


def job_for(ids, *, new=5, n=1, tokenizer=None, sampling=None, end=ARITHMETIC.eos_token_id, unfinished=(), **options):
    """A job with greedy answers, and its log."""
    log = Log()
    sampling = sampling or SamplingParams(temperature=0)
    options_of_answers = {"limit": new, "end": end, "unfinished": unfinished}
    answers = [Answer(tokenizer or Letters(), ids, sampling, **options_of_answers) for _ in range(n)]
    return Job(list(ids), answers, log, keep=log.kept.append, **options), log


def chatting(speaker: Path, folder: Path) -> Path:
    """A copy of a speaking model, with a chat template."""
    shutil.copytree(speaker, folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    return folder


@contextmanager
def serving(folder: Path, *, limits: Limits | None = None, **options: Any) -> Iterator[tuple[str, Server]]:
    """A server of a folder in a thread, on a free port of this machine: its URL, once it is ready, and itself."""
    with listen("127.0.0.1", 0) as listener:
        server = Server(folder, limits=limits or Limits(drain_s=0), threads=1, **options)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            settled(lambda: server.service or server.failure)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", server
        finally:
            server.should_exit = True
            thread.join(LONGEST_S)
            assert not thread.is_alive()


def slowed(server: Server, seconds: float) -> Any:
    """A step of the server's engine that takes its time, so that a text is still being written when a test looks."""
    step = server.service.engine.step

    def slowly(*arguments: Any) -> Any:
        time.sleep(seconds)
        return step(*arguments)

    return slowly


def settled(true: Any) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + LONGEST_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)

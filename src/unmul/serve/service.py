"""A loaded model with all that serving it needs, and the way from a request to its jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from unmul.energy import Meter
from unmul.engine import open_engine
from unmul.engine.base import Engine, FloatArray
from unmul.engine.sampler import SamplingParams
from unmul.errors import UsageError
from unmul.runtime import folder_tokenizer
from unmul.runtime.answer import Answer, checked_stops
from unmul.runtime.chat import ChatTemplate
from unmul.runtime.state import fingerprint
from unmul.runtime.text import encode
from unmul.serve.cache import StateCache
from unmul.serve.exchange import Exchange
from unmul.serve.scheduler import Context, Job, Scheduler
from unmul.serve.schema import ChatRequest, CompletionRequest, GenerationRequest
from unmul.serve.sessions import Sessions
from unmul.serve.worker import Worker

__all__ = ["Limits", "Prompt", "Service", "open_service"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How much a server takes on."""

    slots: int = 64  # answers written at once
    queue: int = 256  # prompts that wait
    body_bytes: int = 8 << 20
    prompt_tokens: int = 1 << 17
    new_tokens: int = 1 << 13  # most of one answer, and of a chat's where it names none
    state_bytes: int = 256 << 20  # cached states, and again as much for sessions
    drain_s: float = 20.0  # time for open answers when the server ends
    ping_s: float = 15.0  # a stream that is idle for so long sends a comment

    def __post_init__(self) -> None:
        for name in ("slots", "queue"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} {getattr(self, name)} is not a count", "choose 1 or more")
        if self.state_bytes < 0:
            raise UsageError(f"--state-memory {self.state_bytes >> 20} is negative", "choose 0 or more megabytes")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the engine reads it.

    Args:
        ids: the tokens to read; the first `hidden` of them are no part of what was sent.
        text: what was sent, as text.
        start: the state before them; None is the beginning.
        unfinished: the last tokens of a session whose last character the answer completes.
    """

    ids: list[int]
    hidden: int
    text: str
    start: FloatArray | None = None
    unfinished: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a request wants of each of its prompts: the answers to it, and scores as Job has them."""

    answers: Callable[[Prompt], list[Answer]]
    top: int | None
    echo: bool = False


def open_service(
    folder: Path,
    *,
    device: str = "cpu",
    threads: int | None = None,
    limits: Limits,
    sessions: Path | None = None,
    shared: bool = False,
) -> Service:
    """Load a packed folder for serving.

    Args:
        threads: None takes one for each core.
        sessions: the folder where sessions survive a restart.
        shared: whether other servers use it too.

    Raises:
        CheckpointError, EngineError: as open_engine.
        TokenizerError: no tokenizer, or a chat template that is no template.
    """
    engine = open_engine(folder, device=device, threads=threads)
    return Service(folder, engine, Meter(device), limits, sessions, shared=shared)


class Service:
    """Everything behind the routes: tokenizer, template, scheduler, cache, sessions, energy meter."""

    def __init__(
        self, folder: Path, engine: Engine, meter: Meter, limits: Limits, sessions: Path | None, *, shared: bool
    ) -> None:
        self.name = folder.resolve().name
        self.engine, self.limits, self.config, self.meter = engine, limits, engine.config, meter
        self.fingerprint = fingerprint(folder)
        self.tokenizer = folder_tokenizer(folder, engine.config)
        self.file_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        self.cache = StateCache(limits.state_bytes)
        self._template = _template(folder)
        state = engine.new_state()
        self.state_bytes = state.nbytes
        self.sessions = Sessions(state, self.fingerprint, folder=sessions, budget=limits.state_bytes, shared=shared)
        self._writing: dict[str, Job] = {}  # the job of each session that has one
        self.scheduler = Scheduler(engine, self.cache, slots=limits.slots)
        self.worker = Worker(self.scheduler, queue=limits.queue)

    @property
    def chats(self) -> bool:
        """Whether the model has a chat template."""
        return isinstance(self._template, ChatTemplate)

    def close(self) -> None:
        """End every answer and write every session."""
        self.worker.close()
        self.sessions.close()
        self.meter.close()

    async def start_completion(self, request: CompletionRequest) -> tuple[Exchange, list[Prompt]]:
        """Queue the jobs of a completion."""
        answers = self._answers(request, request.max_tokens, least=0 if request.echo else 1)
        wish = _Wish(answers, request.logprobs, request.echo and request.logprobs is not None)
        if request.session is not None:
            return await self._start_session(request, request.session, wish)
        prompts = await asyncio.to_thread(lambda: [self._prompt(prompt) for prompt in request.prompts])
        return self._start(prompts, wish), prompts

    async def start_chat(self, request: ChatRequest) -> tuple[Exchange, list[Prompt]]:
        """Queue the job of a chat; raises UsageError where the model has no template."""
        if isinstance(self._template, UsageError):
            raise self._template
        if request.top_logprobs and not request.logprobs:
            raise UsageError("top_logprobs without logprobs", "set logprobs to true")
        text = self._template.render([{"role": message.role, "content": message.text} for message in request.messages])
        ids = self._checked(await asyncio.to_thread(encode, self.tokenizer, text))
        limit = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
        wish = _Wish(self._answers(request, limit, least=1), request.top_logprobs if request.logprobs else None)
        prompts = [Prompt(ids, 0, text)]
        return self._start(prompts, wish), prompts

    async def _start_session(self, request: CompletionRequest, name: str, wish: _Wish) -> tuple[Exchange, list[Prompt]]:
        if request.n > 1 or len(request.prompts) > 1 or not request.max_tokens:
            raise UsageError("a session has one text", "give one prompt, n 1 and max_tokens of 1 or more")
        context = await self.sessions.take(name)
        try:
            prompt = await asyncio.to_thread(self._prompt, request.prompts[0], context)
            return self._start([prompt], wish, session=name), [prompt]
        except BaseException:
            self.sessions.release(name)
            raise

    def _start(self, prompts: list[Prompt], wish: _Wish, session: str | None = None) -> Exchange:
        exchange = Exchange(self.worker)
        jobs = [
            Job(prompt.ids, wish.answers(prompt), exchange.sink(index), prompt.start, wish.top, wish.echo)
            for index, prompt in enumerate(prompts)
        ]
        if session is not None:
            jobs[0].shares, jobs[0].keep = False, partial(self._keep_session, exchange, session)
        exchange.submit(jobs)
        if session is not None:
            self._writing[session] = jobs[0]
        return exchange

    def stop_session(self, name: str) -> bool:
        """End the session's answer after its next token; whether there was one. Nothing of the text is lost."""
        job = self._writing.get(name)
        if job is not None:
            job.stopped = True
        return job is not None

    def _keep_session(self, exchange: Exchange, name: str, context: Context | None) -> None:
        # Kept from the worker's thread, so that nothing is missing when that has ended.
        if context is not None:
            self.sessions.keep(name, context)
        exchange.call(self._release_session, name)

    def _release_session(self, name: str) -> None:
        del self._writing[name]
        self.sessions.release(name)

    def _answers(
        self, request: GenerationRequest, limit: int | None, *, least: int
    ) -> Callable[[Prompt], list[Answer]]:
        """What makes the n answers to a prompt; each draws with a seed of its own."""
        limit = self.limits.new_tokens if limit is None else limit
        if not least <= limit <= self.limits.new_tokens:
            raise UsageError(f"max_tokens {limit} cannot be used", f"choose {least} to {self.limits.new_tokens}")
        stops = checked_stops(request.stop)
        seeds = [None if request.seed is None else (request.seed + k) % 2**64 for k in range(request.n if limit else 0)]
        drawn = SamplingParams(temperature=request.temperature, top_p=request.top_p, top_k=request.top_k)

        def answers(prompt: Prompt) -> list[Answer]:
            samplings = [replace(drawn, seed=seed) for seed in seeds]
            return [
                Answer(
                    self.tokenizer,
                    prompt.ids,
                    sampling,
                    limit=limit,
                    stop=stops,
                    end=self.config.eos_token_id,
                    unfinished=prompt.unfinished,
                )
                for sampling in samplings
            ]

        return answers

    def _prompt(self, sent: str | list[int], context: Context | None = None) -> Prompt:
        """The tokens of a text, after the begin token or what a session has not read; ids are taken as they are."""
        if isinstance(sent, str):
            begin = self.config.begin_token_id
            before = context.unread if context else [] if begin is None else [begin]
            ids, text = encode(self.tokenizer, sent), sent
        else:
            before = context.unread if context else []
            ids, text = sent, ""
        self._checked([*before, *ids])
        text = text or self.tokenizer.decode(ids, skip_special_tokens=True)
        if context is None:
            return Prompt([*before, *ids], len(before), text)
        return Prompt([*before, *ids], len(before), text, context.state, () if ids else context.unfinished)

    def _checked(self, ids: list[int]) -> list[int]:
        if not ids:
            raise UsageError("the prompt is empty", "give at least one token to go on from")
        if len(ids) > self.limits.prompt_tokens:
            raise UsageError(
                f"the prompt has {len(ids)} tokens", f"send at most {self.limits.prompt_tokens}, or go on in a session"
            )
        outside = [token for token in ids if not 0 <= token < self.config.vocab_size]
        if outside:
            raise UsageError(f"token id {outside[0]} is not in the model", f"choose 0 to {self.config.vocab_size - 1}")
        return ids


def _template(folder: Path) -> ChatTemplate | UsageError:
    try:
        return ChatTemplate(folder)
    except UsageError as error:  # a model of plain text: said when somebody wants to chat
        return error

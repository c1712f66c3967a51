"""The documents of OpenAI's routes: whole answers, chunks of a stream, usage, log-probabilities."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Tokenizer

from unmul.runtime.text import UNFINISHED
from unmul.serve.joules import Joules
from unmul.serve.scheduler import PromptRead, Written
from unmul.serve.scores import TokenScore
from unmul.serve.service import Prompt, Service

__all__ = ["ChatForm", "Choice", "CompletionForm", "Form", "Part", "Usage", "token_text"]

Document = dict[str, Any]


@dataclass(slots=True)
class Usage:
    """Tokens of a request so far."""

    prompt: int = 0
    cached: int = 0
    new: int = 0

    def document(self) -> Document:
        """In OpenAI's form."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.new,
            "total_tokens": self.prompt + self.new,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


@dataclass(frozen=True, slots=True)
class Part:
    """Some more of a choice: text, scored tokens (None: no score), and at the end the reason."""

    text: str
    tokens: list[tuple[int, TokenScore | None]] = field(default_factory=list)
    finish: str | None = None

    def __bool__(self) -> bool:
        return bool(self.text or self.tokens or self.finish)


@dataclass(slots=True)
class Choice:
    """A choice as it has come so far."""

    index: int
    parts: list[Part] = field(default_factory=list)
    streamed: int = 0  # chunks that are out
    length: int = 0  # characters in them

    def joined(self) -> Part:
        """All parts as one."""
        tokens = [token for part in self.parts for token in part.tokens]
        return Part("".join(part.text for part in self.parts), tokens, self.parts[-1].finish)


class Form(ABC):
    """What both routes share: numbering of choices, the envelope, usage.

    Args:
        scores: whether log-probabilities are part of the documents.
    """

    kind = chunk_kind = ""  # the "object" of a whole answer, and of a chunk
    prefix = ""

    def __init__(self, service: Service, prompts: Sequence[Prompt], n: int, *, scores: bool) -> None:
        self.usage = Usage()
        self.scores = scores
        self._tokenizer, self._prompts, self._n = service.tokenizer, prompts, n
        self._joules = Joules(service.meter, service.scheduler)
        self._head = {
            "id": f"{self.prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": service.name,
            "system_fingerprint": f"unmul-{service.fingerprint[-12:]}",
        }
        self.choices = [Choice(index) for index in range(len(prompts) * n)]

    def parts(self, prompt: int, event: PromptRead | Written) -> list[tuple[Choice, Part]]:
        """What an event of that prompt's job adds to its choices."""
        mine = self.choices[prompt * self._n : (prompt + 1) * self._n]
        if isinstance(event, PromptRead):
            self.usage.prompt += len(self._prompts[prompt].ids)
            self.usage.cached += event.cached
            return [(choice, part) for choice in mine for part in self.opening(prompt, event)]
        self.usage.new += event.token is not None
        part = Part(event.text, finish=event.finish)
        if event.token is not None and event.score is not None:
            part.tokens.append((event.token, event.score))
        return [(mine[event.choice], part)]

    def final_usage(self) -> Document:
        """The usage at the end of an answer, with joules a token where they are measured."""
        each = self._joules.per_token()
        return self.usage.document() | ({} if each is None else {"joules_per_token": each})

    def whole(self) -> Document:
        """The answer in one document."""
        choices = [self.choice(choice, choice.joined()) for choice in self.choices]
        return self._head | {"object": self.kind, "choices": choices, "usage": self.final_usage()}

    def chunk(self, choice: Choice, part: Part) -> Document:
        """A document of a stream; call it once for each part, because it counts."""
        document = self._head | {"object": self.chunk_kind, "choices": [self.delta(choice, part)]}
        choice.streamed += 1
        choice.length += len(part.text)
        return document

    def last_chunk(self) -> Document:
        """The chunk with the usage, without a choice."""
        return self._head | {"object": self.chunk_kind, "choices": [], "usage": self.final_usage()}

    @abstractmethod
    def opening(self, prompt: int, event: PromptRead) -> list[Part]:
        """What comes before the first new token of a choice."""

    @abstractmethod
    def choice(self, choice: Choice, part: Part) -> Document:
        """A whole choice."""

    @abstractmethod
    def delta(self, choice: Choice, part: Part) -> Document:
        """A part of a choice in a stream."""


class CompletionForm(Form):
    """POST /v1/completions.

    Args:
        echo: whether the prompt is part of the text.
        writes: False where only the prompt is asked for.
    """

    kind = chunk_kind = "text_completion"
    prefix = "cmpl"

    def __init__(
        self, service: Service, prompts: Sequence[Prompt], n: int, *, scores: bool, echo: bool, writes: bool
    ) -> None:
        super().__init__(service, prompts, n, scores=scores)
        self._echo, self._writes = echo, writes

    def opening(self, prompt: int, event: PromptRead) -> list[Part]:
        """With echo, the prompt; its first token has no score where nothing stands before it."""
        if not self._echo:
            return []
        sent = self._prompts[prompt]
        scores = [None, *event.scores]
        tokens = list(zip(sent.ids, scores, strict=True))[sent.hidden :] if self.scores else []
        return [Part(sent.text, tokens, None if self._writes else "length")]

    def choice(self, choice: Choice, part: Part) -> Document:
        """A whole choice, or a part: completions know no difference."""
        logprobs = self._logprobs(part, choice.length) if self.scores else None
        return {"index": choice.index, "text": part.text, "logprobs": logprobs, "finish_reason": part.finish}

    delta = choice

    def _logprobs(self, part: Part, offset: int) -> Document:
        names = [token_text(self._tokenizer, token) for token, _ in part.tokens]
        offsets = []
        for name in names:
            offsets.append(offset)
            offset += len(name)
        return {
            "tokens": names,
            "token_logprobs": [score and score.logprob for _, score in part.tokens],
            "top_logprobs": [score and self._top(score) for _, score in part.tokens],
            "text_offset": offsets,
        }

    def _top(self, score: TokenScore) -> dict[str, float]:
        """Tokens by name, the chosen one among them; of two with one name, the likelier."""
        named: dict[str, float] = {}
        for token, logprob in [*score.top, (score.token, score.logprob)]:
            named.setdefault(token_text(self._tokenizer, token), logprob)
        return named


class ChatForm(Form):
    """POST /v1/chat/completions."""

    kind, chunk_kind = "chat.completion", "chat.completion.chunk"
    prefix = "chatcmpl"

    def opening(self, prompt: int, event: PromptRead) -> list[Part]:
        """An empty part, which names the role in a stream."""
        return [Part("")]

    def choice(self, choice: Choice, part: Part) -> Document:
        """A whole choice."""
        message = {"role": "assistant", "content": part.text, "refusal": None}
        return self._framed(choice, part, "message", message)

    def delta(self, choice: Choice, part: Part) -> Document:
        """The first names the role, those after it hold text, the last may be empty."""
        first = {"role": "assistant", "content": ""}
        delta = first if not choice.streamed else {"content": part.text} if part.text else {}
        return self._framed(choice, part, "delta", delta)

    def _framed(self, choice: Choice, part: Part, name: str, content: Document) -> Document:
        entries = [self._entry(score) for _, score in part.tokens if score]
        logprobs = {"content": entries, "refusal": None} if self.scores else None
        return {"index": choice.index, name: content, "logprobs": logprobs, "finish_reason": part.finish}

    def _entry(self, score: TokenScore) -> Document:
        top = [self._named(token, logprob) for token, logprob in score.top]
        return self._named(score.token, score.logprob) | {"top_logprobs": top}

    def _named(self, token: int, logprob: float) -> Document:
        name = token_text(self._tokenizer, token)
        text = self._tokenizer.decode([token], skip_special_tokens=False)
        return {"token": name, "logprob": logprob, "bytes": list(name.encode()) if name == text else None}


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """A token's text; the vocabulary's name for it where it is no text of its own, as half a character is."""
    text: str = tokenizer.decode([token], skip_special_tokens=False)
    if text and UNFINISHED not in text:
        return text
    return tokenizer.id_to_token(token) or f"<{token}>"

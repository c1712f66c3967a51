"""What requests hold. Fields that change nothing are passed over; those that ask for more than we do are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator

from unmul.errors import UsageError

__all__ = ["ChatRequest", "CompletionRequest", "GenerationRequest", "Message", "StreamOptions", "TextPart"]

# Fields of OpenAI's that would change the text, with the values that ask for nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
}

Stop = Annotated[str, Field(min_length=1, max_length=1000)]
TokenIds = Annotated[list[StrictInt], Field(min_length=1)]


class StreamOptions(BaseModel):
    """What a stream tells beside the text."""

    include_usage: bool = False
    continuous_usage_stats: bool = False  # vLLM's: usage so far in every chunk


class GenerationRequest(BaseModel):
    """What both routes share."""

    model_config = ConfigDict(allow_inf_nan=False)

    model: str | None = None
    max_tokens: int | None = Field(None, ge=0)
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, lt=2**31, description="keep this many of the likeliest tokens; 0 keeps all")
    seed: int | None = Field(None, ge=-(2**63), lt=2**64)
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] = Field(default_factory=list)
    n: int = Field(1, ge=1, le=16)
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        """Null is the default, as OpenAI has it."""
        if not isinstance(data, dict):
            return data
        given = {name: value for name, value in data.items() if value is not None}
        for name in NEUTRAL.keys() & given.keys():
            if given[name] not in NEUTRAL[name]:
                raise UsageError(f"{name} is not supported", "leave it out")
        if given.get("best_of", given.get("n", 1)) != given.get("n", 1):
            raise UsageError(f"best_of {given['best_of']!r} is not supported", "leave it out, or set it to n")
        return given


class CompletionRequest(GenerationRequest):
    """POST /v1/completions. Token ids are read as they are; before a text the model's begin token is put."""

    prompt: (
        StrictStr
        | Annotated[list[StrictStr], Field(min_length=1, max_length=128)]
        | TokenIds
        | Annotated[list[TokenIds], Field(min_length=1, max_length=128)]
    )
    max_tokens: int | None = Field(16, ge=0)
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool = False
    session: str | None = Field(None, description="a name under which the context is kept: the prompt goes on from it")

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts, one or several."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        return [self.prompt] if isinstance(self.prompt[0], int) else self.prompt


class TextPart(BaseModel):
    """A piece of a message's content; only text is known."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One turn of a conversation; which roles may come is the template's affair."""

    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """The content as one string."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(GenerationRequest):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=20)

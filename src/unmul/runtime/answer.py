"""One text being written: which token comes next, what text that makes certain, when it ends.

It knows no engine: `unmul run` and the server feed it logits, each from its own loop.
"""

# V vocabulary

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tokenizers import Tokenizer

from unmul.engine.base import FloatArray
from unmul.engine.sampler import Sampler, SamplingParams
from unmul.errors import UsageError
from unmul.runtime.text import TextStream

__all__ = ["Answer", "Finish", "checked_stops"]

Finish = Literal["stop", "length"]


def checked_stops(stop: str | Sequence[str]) -> tuple[str, ...]:
    """Stop strings as a tuple; UsageError where one is empty."""
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if "" in stops:
        raise UsageError("a stop string is empty", "leave it out")
    return stops


class Answer:
    """What goes on after a prompt: at most `limit` tokens, up to the end token or a stop string.

    Args:
        context: the tokens before, of which decoding the first new one may depend.
        limit: most new tokens, at least 1.
        stop: strings that end the text; they are not part of it.
        end: the token that ends a text; it is not part of it.
        unfinished: as TextStream has it.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        context: Sequence[int],
        sampling: SamplingParams,
        *,
        limit: int,
        stop: Sequence[str] = (),
        end: int | None = None,
        unfinished: Sequence[int] = (),
    ) -> None:
        if limit < 1:
            raise UsageError(f"max_new_tokens {limit} is not a count", "choose 1 or more")
        self.ids: list[int] = []
        self.finish: Finish | None = None
        self.sampler = Sampler(sampling)
        self.end = end
        self._text = TextStream(tokenizer, context, stop, unfinished)
        self._limit = limit

    @property
    def unfinished(self) -> list[int]:
        """The last tokens, where they end within a character, which a text that goes on from here completes."""
        return self._text.unfinished

    def extend(self, logits: FloatArray) -> tuple[int | None, str]:
        """Choose the next token from logits [V]; returns it, None for the end token, and the text that is now certain.

        Raises EngineError for NaN or infinite logits.
        """
        return self.accept(self.sampler.sample(logits))

    @property
    def left(self) -> int:
        """How many more tokens the text may have."""
        return self._limit - len(self.ids)

    def accept(self, token: int) -> tuple[int | None, str]:
        """As extend, with a token that was drawn from this answer's sampler elsewhere."""
        if token == self.end:
            self.finish = "stop"
            return None, self._text.finish()
        self.ids.append(token)
        piece = self._text.push(token)
        if self._text.stopped:
            self.finish = "stop"
        elif self.left == 0:
            self.finish = "length"
            piece += self._text.finish()
        return token, piece

    def close(self) -> str:
        """End the text where it stands, because somebody wants so; returns what was held back."""
        self.finish = "length"
        return self._text.finish()

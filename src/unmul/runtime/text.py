"""From text to tokens, and from tokens back to text while they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from unmul.checkpoint import TOKENIZER
from unmul.config import ModelConfig
from unmul.data.tokenizer import read_tokenizer, refusals, vocabulary_size
from unmul.errors import TokenizerError, UsageError

__all__ = ["TextStream", "encode", "folder_tokenizer"]

UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what tokenizers decode the bytes of half a character to
_OTHER = "use the tokenizer.json that belongs to these weights"
LONGEST_UNFINISHED = 3  # a UTF-8 character has four bytes at most: three of them may wait for the last


def folder_tokenizer(folder: Path, config: ModelConfig) -> Tokenizer:
    """The tokenizer of a checkpoint folder; TokenizerError where it is missing, damaged or another model's."""
    path = folder / TOKENIZER
    if not path.is_file():
        raise TokenizerError(f"{folder} has no {TOKENIZER}, which text needs", "copy the model's tokenizer there")
    tokenizer = read_tokenizer(path)
    if vocabulary_size(tokenizer) > config.vocab_size:
        raise TokenizerError(
            f"{path} has {vocabulary_size(tokenizer)} tokens, the model {config.vocab_size}",
            _OTHER,
        )
    return tokenizer


def encode(tokenizer: Tokenizer, text: str, *, begin: int | None = None) -> list[int]:
    """Token ids of a text; with begin, that token comes first, once."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the text is not valid UTF-8 at character {error.start}", "convert it to UTF-8") from None
    with refusals("the tokenizer cannot read the text", _OTHER):
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids if begin is None else [begin, *ids]


class TextStream:
    """Text of tokens as they come: whole characters only, and nothing from a stop string on.

    Args:
        context: the tokens before, for some decoders treat the first token of a text differently.
        stop: strings that end the text.
        unfinished: what another stream left of a character that this text goes on with.
    """

    def __init__(
        self, tokenizer: Tokenizer, context: Sequence[int], stop: Sequence[str] = (), unfinished: Sequence[int] = ()
    ) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._held = ""  # may be the beginning of a stop string
        self.stopped = False
        self._window = list(unfinished or context[-1:])
        self._before = len(self._window) - len(unfinished)  # tokens of the window that are context and nothing else
        before = self._decode()
        self._shown = len(_whole_characters(before) if unfinished else before)  # of the window, out already

    def push(self, token: int) -> str:
        """The text that this token makes certain."""
        self._window.append(token)
        text = self._decode()
        whole = _whole_characters(text)
        fresh = whole[self._shown :]
        self._shown = max(self._shown, len(whole))
        if whole == text:
            # A window that restarts at each whole character keeps decoding cheap whatever the text's length.
            self._window, self._before = [token], 1
            self._shown = len(self._decode())
        return self._before_stop(fresh)

    @property
    def unfinished(self) -> list[int]:
        """The last tokens, where they end within a character; empty where they do not."""
        text = self._decode()
        return [] if _whole_characters(text) == text else self._window[self._before :]

    def finish(self) -> str:
        """What was held back, without the bytes of an unfinished character."""
        held, self._held = self._held, ""
        return held

    def _decode(self) -> str:
        with refusals("the tokenizer cannot write the text", _OTHER):
            text: str = self._tokenizer.decode(self._window, skip_special_tokens=True)
        return text

    def _before_stop(self, fresh: str) -> str:
        text = self._held + fresh
        found = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _whole_characters(text: str) -> str:
    """The text without a tail that later bytes may still complete."""
    tail = len(text) - len(text.rstrip(UNFINISHED))
    return text[: len(text) - min(tail, LONGEST_UNFINISHED)]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of text that begins stop."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)

"""Chat templates: from a list of messages to the text that a model was trained to go on from.

The template is Jinja and comes with the model's folder, so it runs in Jinja's sandbox, as Transformers does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from unmul.checkpoint.folder import read_json
from unmul.errors import MissingExtraError, TokenizerError, UsageError

__all__ = ["ChatTemplate"]

TEMPLATE = "chat_template.jinja"  # where newer folders keep it; older ones in tokenizer_config.json
TOKENIZER_CONFIG = "tokenizer_config.json"


class ChatTemplate:
    """The template of a model folder.

    Raises:
        UsageError: the folder has none.
        TokenizerError: it is not valid Jinja.
    """

    def __init__(self, folder: Path) -> None:
        settings = read_json(folder / TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).is_file() else {}
        source = _source(folder, settings)
        if source is None:
            raise UsageError(
                f"the model {folder.name} has no chat template",
                f"use /v1/completions, or add chat_template to its {TOKENIZER_CONFIG}",
            )
        self._tokens = {name: _token(settings.get(name)) for name in ("bos_token", "eos_token")}
        self._template = _compile(folder, source)

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text of a conversation (role and content of each message) up to where the model answers."""
        from jinja2 import TemplateError

        try:
            text: str = self._template.render(messages=messages, add_generation_prompt=True, **self._tokens)
        except TemplateError as error:
            problem = f"the chat template refuses these messages ({error})"
            raise UsageError(problem, "change their roles or order") from None
        return text


def _source(folder: Path, settings: Mapping[str, Any]) -> str | None:
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text("utf-8")
    found = settings.get("chat_template")
    if isinstance(found, list):  # several by name; "default" is for conversation
        found = {entry.get("name"): entry.get("template") for entry in found}.get("default")
    return found if isinstance(found, str) else None


def _token(entry: Any) -> str:
    """A special token's text, which tokenizer_config.json gives bare or as an object."""
    return str(entry.get("content", "")) if isinstance(entry, dict) else entry or ""


def _compile(folder: Path, source: str) -> Any:
    try:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ModuleNotFoundError:
        raise MissingExtraError("jinja2", "serve") from None

    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse  # what published templates call
    try:
        return environment.from_string(source)
    except TemplateError as error:
        raise TokenizerError(f"the chat template of {folder} is not valid ({error})", "copy the model's own") from None

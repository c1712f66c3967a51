"""Around every route: the key, the size of the body, a count of answers."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unmul.errors import UsageError
from unmul.serve.errors import http_response

__all__ = ["Guard", "key_from"]

PROTECTED = ("/v1/", "/metrics")


def key_from(variable: str | None) -> str | None:
    """The API key that an environment variable holds; None where none is named, UsageError where it is empty."""
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise UsageError(f"the environment variable {variable} is empty", "set it to the key that clients must send")
    return key


class Guard:
    """ASGI middleware.

    Args:
        key: what callers must send as a bearer token; None lets everybody in.
        body_bytes: the largest body.
        answered: told the status of every response.
    """

    def __init__(self, app: ASGIApp, *, key: str | None, body_bytes: int, answered: Callable[[int], None]) -> None:
        self._app, self._key, self._body_bytes = app, key and key.encode(), body_bytes
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope["path"], Headers(scope=scope))
        except HTTPException as error:
            await http_response(error)(scope, receive, self._noted(send))
            return
        await self._app(scope, self._counted(receive), self._noted(send))

    def _check(self, path: str, headers: Headers) -> None:
        if self._key and path.startswith(PROTECTED) and not self._knows_key(headers):
            detail = "the API key is missing or wrong: send it as Authorization: Bearer KEY"
            raise HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._body_bytes:
            raise self._too_large()

    def _knows_key(self, headers: Headers) -> bool:
        sent = headers.get("authorization", "").removeprefix("Bearer ").strip()
        return hmac.compare_digest(sent.encode("latin-1"), self._key or b"")  # latin-1: the bytes as they came

    def _counted(self, receive: Receive) -> Receive:
        """The same messages; a body without a stated length is cut off when it grows too large."""
        left = self._body_bytes

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise self._too_large()
            return message

        return counted

    def _noted(self, send: Send) -> Send:
        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._answered(message["status"])
            await send(message)

        return noted

    def _too_large(self) -> HTTPException:
        return HTTPException(
            413, f"the body is larger than {self._body_bytes} bytes: send less", {"Connection": "close"}
        )

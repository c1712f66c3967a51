"""Errors as OpenAI's clients know them: a status, and {"error": {message, type, param, code}}."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from unmul.errors import UnmulError, UsageError
from unmul.serve.worker import BusyError, ClosingError

__all__ = [
    "LoadingError",
    "NoSuchModelError",
    "ReplicaLostError",
    "error_document",
    "error_response",
    "handle_errors",
    "http_response",
    "status_of",
]

LOG = logging.getLogger("unmul.serve")

INVALID, SERVER = "invalid_request_error", "server_error"
CODES = {401: "invalid_api_key", 404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}


class LoadingError(UnmulError):
    """The model is not ready yet."""

    def __init__(self) -> None:
        super().__init__("the model is being loaded", "try again in a moment")


class ReplicaLostError(UnmulError):
    """One of several servers behind a front ended while it answered."""

    def __init__(self) -> None:
        super().__init__("the server that answered has ended", "try again; a session goes on from its last answer")


class NoSuchModelError(UnmulError):
    """A request names a model that is not here."""

    def __init__(self, asked: str, served: str) -> None:
        super().__init__(f"model {asked[:80]!r} is not served", f"ask for {served!r}, or name none")


def status_of(error: Exception) -> tuple[int, str, str | None]:
    """HTTP status, OpenAI's type and code of an error."""
    match error:
        case UsageError():
            return 400, INVALID, None
        case NoSuchModelError():
            return 404, INVALID, "model_not_found"
        case BusyError():
            return 429, "rate_limit_error", "rate_limit_exceeded"
        case ClosingError() | LoadingError() | ReplicaLostError():
            return 503, SERVER, "unavailable"
        case _:
            return 500, SERVER, None


def error_document(error: Exception) -> dict[str, Any]:
    """The document of an error that ended a request; only what is meant for users is told."""
    _, kind, code = status_of(error)
    if not isinstance(error, UnmulError):
        LOG.error("a request failed", exc_info=error)
    return _document(str(error) if isinstance(error, UnmulError) else "internal error", kind, code)


def handle_errors(app: FastAPI) -> None:
    """Give every error of an app its form."""
    app.add_exception_handler(UnmulError, error_response)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, error_response)


def http_response(error: HTTPException) -> JSONResponse:
    """The response to a request that no route answers."""
    kind = SERVER if error.status_code >= 500 else INVALID
    document = _document(str(error.detail), kind, CODES.get(error.status_code))
    return JSONResponse(document, error.status_code, error.headers)


async def error_response(_: Request, error: Exception) -> JSONResponse:
    """The response to a request that an error ended."""
    headers = {"Retry-After": str(getattr(error, "retry_after", 1))} if status_of(error)[0] in (429, 503) else None
    return JSONResponse(error_document(error), status_of(error)[0], headers)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    param, message = _first(error.errors())
    return JSONResponse(_document(message, INVALID, None, param), 400)


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return http_response(error)


def _first(found: Sequence[Any]) -> tuple[str | None, str]:
    """The first field that is wrong, and all that is said about it; a field of several types says one thing each."""
    if found[0]["type"] == "json_invalid":
        return None, f"the body is not JSON: {found[0]['ctx']['error']}"
    field = found[0]["loc"][1:2]
    if not field:
        return None, "the body is not a JSON object: send one, as Content-Type: application/json"
    said = dict.fromkeys(error["msg"] for error in found if error["loc"][1:2] == field)
    return str(field[0]), f"{field[0]}: {' or '.join(said)}"


def _document(message: str, kind: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}

"""From the events of a request to its response: one document or a stream; a client that goes away ends both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from unmul.serve.documents import Form, Part
from unmul.serve.errors import error_document
from unmul.serve.exchange import Exchange
from unmul.serve.metrics import Events
from unmul.serve.schema import GenerationRequest, StreamOptions

__all__ = ["event_line", "respond"]

GONE = 499  # nginx's status for a client that did not wait; nobody reads it
PING, DONE = ": ping\n\n", "data: [DONE]\n\n"


async def respond(request: Request, exchange: Exchange, form: Form, body: GenerationRequest, ping_s: float) -> Response:
    """The response to a request whose jobs are queued. An idle stream sends a comment every ping_s seconds."""
    events = request.app.state.metrics.timed(exchange.events(ping_s))
    if body.stream:
        return _Stream(exchange, _lines(events, form, body.stream_options))
    try:
        return await _unless_gone(request, _whole(events, form))
    finally:
        exchange.cancel()


class _Stream(StreamingResponse):
    """Server-sent events. However it ends, and even if it never begins, the jobs end with it."""

    media_type = "text/event-stream"

    def __init__(self, exchange: Exchange, lines: AsyncIterator[str]) -> None:
        super().__init__(lines, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._exchange.cancel()


async def _lines(events: Events, form: Form, options: StreamOptions) -> AsyncIterator[str]:
    try:
        async for event in events:
            if event is None:
                yield PING
                continue
            for choice, part in form.parts(*event):
                if part or not choice.streamed:
                    yield event_line(form.chunk(choice, part) | _usage(form, part, options))
        if options.include_usage:
            yield event_line(form.last_chunk())
        yield DONE
    except Exception as error:  # the status is out already: the client finds the error in the stream
        yield event_line(error_document(error))


def _usage(form: Form, part: Part, options: StreamOptions) -> dict[str, Any]:
    if options.continuous_usage_stats:
        return {"usage": form.final_usage() if part.finish else form.usage.document()}
    return {"usage": None} if options.include_usage else {}


def event_line(document: dict[str, Any]) -> str:
    """A document as an event of a stream."""
    return f"data: {json.dumps(document, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def _whole(events: Events, form: Form) -> Response:
    async for event in events:
        for choice, part in form.parts(*event) if event else ():
            choice.parts.append(part)
    return JSONResponse(form.whole())


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """The response, unless the client leaves before it is there."""
    answer, gone = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        return answer.result() if answer.done() else Response(status_code=GONE)
    finally:
        for task in (answer, gone):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

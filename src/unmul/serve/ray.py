"""Several servers as one, by Ray Serve: replicas of `unmul serve`'s application, and a front that knows sessions.

    serve run unmul.serve.ray:application model=packed replicas=4 sessions=/shared/talks

The front hands a request to a replica as it came and passes the response on; routes, limits and errors are the
replicas'. The same session goes to the same replica, by Ray's consistent hashing.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message

from unmul.errors import MissingExtraError
from unmul.runtime import embedded_model
from unmul.serve.app import create_app
from unmul.serve.errors import ReplicaLostError, error_document, error_response
from unmul.serve.guard import key_from
from unmul.serve.respond import event_line
from unmul.serve.service import Limits, Service, open_service

try:
    from ray import serve
    from ray.exceptions import RayActorError
    from ray.serve.config import RequestRouterConfig
except ModuleNotFoundError:
    raise MissingExtraError("ray", "ray") from None

__all__ = ["Settings", "application", "session_of"]

# Of a request, what a replica needs; the rest is the front's own.
SCOPE = ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "headers", "client", "server")
STOP = re.compile(r"/v1/sessions/([^/]+)/stop")
ROUTER = RequestRouterConfig(
    request_router_class="ray.serve.experimental.consistent_hash_router.ConsistentHashRouter",
    request_router_kwargs={"num_fallback_replicas": 0},  # a busy replica says so itself
)
MANY = 10_000  # requests that the front passes on at once: the replicas have the limits
MARGIN = 64  # requests beyond slots and queue that reach a replica, to hear that it is full


class Settings(BaseModel):
    """What `serve run` takes as key=value; the flags of `unmul serve`, replicas, and threads of each."""

    model_config = ConfigDict(extra="forbid")

    model: Path | None = None
    replicas: int = Field(1, ge=1)
    threads: int = Field(1, ge=1)
    device: Literal["cpu", "cuda"] = "cpu"
    sessions: Path | None = None  # a folder that every replica sees
    api_key_env: str | None = None  # set where the replicas run
    slots: int = 64
    queue: int = 256
    state_memory: int = 256

    @property
    def limits(self) -> Limits:
        """How much each replica takes on."""
        return Limits(slots=self.slots, queue=self.queue, state_bytes=self.state_memory << 20)


def application(settings: Settings) -> serve.Application:
    """The application for `serve.run`, or by name for `serve run` and its files."""
    limits, gpus = settings.limits, int(settings.device == "cuda")
    replica = serve.deployment(
        name="replica",
        num_replicas=settings.replicas,
        max_ongoing_requests=limits.slots + limits.queue + MARGIN,
        request_router_config=ROUTER,
        ray_actor_options={"num_cpus": settings.threads, "num_gpus": gpus},
    )(_Replica)
    front = serve.deployment(name="front", max_ongoing_requests=MANY, ray_actor_options={"num_cpus": 0})(_Front)
    return front.bind(replica.bind(settings), limits.body_bytes)


def session_of(path: str, body: bytes) -> str:
    """The session that a request is about; empty where it names none."""
    if stop := STOP.fullmatch(path):
        return stop[1]
    if b'"session"' not in body:
        return ""
    try:
        session = json.loads(body)["session"]
    except (ValueError, TypeError, KeyError, RecursionError):  # the replica says what is wrong
        return ""
    return session if isinstance(session, str) else ""


class _Front:
    """Finds the session of a request, and lets its replica answer."""

    def __init__(self, replicas: Any, body_bytes: int) -> None:
        self._replicas, self._body_bytes = replicas, body_bytes

    async def __call__(self, request: Request) -> Response:
        body = await self._read(request)
        scope = {name: request.scope[name] for name in SCOPE if name in request.scope}
        replicas = self._replicas.options(stream=True, session_id=session_of(request.url.path, body))
        batches = replicas.answer.remote(scope, body)
        try:
            start, *more = await anext(batches)
        except RayActorError:
            return await error_response(request, ReplicaLostError())
        response = StreamingResponse(_contents(start, more, batches), start["status"])
        response.raw_headers = start["headers"]
        return response

    async def _read(self, request: Request) -> bytes:
        """The body; of one that is too large, enough for the replica to see it."""
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > self._body_bytes:
                break
        return bytes(body)


async def _contents(start: Message, more: list[Message], batches: Any) -> AsyncIterator[bytes]:
    try:
        for message in more:
            yield message.get("body", b"")
        async for batch in batches:
            for message in batch:
                yield message.get("body", b"")
    except RayActorError:
        if (b"content-type", b"text/event-stream; charset=utf-8") not in start["headers"]:
            raise  # half a document: the connection ends without the rest
        yield event_line(error_document(ReplicaLostError())).encode()
    finally:
        batches.cancel()  # the client may have left


class _Replica:
    """The application of `unmul serve`, without a socket."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Ray awaits it
        self._service: Service | None = None
        ready: asyncio.Future[Service | Exception] = asyncio.get_running_loop().create_future()
        self._app = create_app(
            lambda: open_service(
                settings.model or embedded_model(),
                device=settings.device,
                threads=settings.threads,
                limits=settings.limits,
                sessions=settings.sessions,
                shared=True,
            ),
            limits=settings.limits,
            key=key_from(settings.api_key_env),
            loaded=ready.set_result,
        )
        self._life = self._app.router.lifespan_context(self._app)
        await self._life.__aenter__()
        outcome = await ready
        if isinstance(outcome, Exception):
            raise outcome
        self._service = outcome
        self._name = serve.get_replica_context().replica_id.unique_id.encode()

    def __del__(self) -> None:
        """Ray calls this when the replica ends in order."""
        if self._service:
            self._service.close()

    async def answer(self, scope: dict[str, Any], body: bytes) -> AsyncIterator[list[Message]]:
        """The ASGI messages of a response, those that are there together; the first one has the headers."""
        messages: asyncio.Queue[Message | None] = asyncio.Queue()
        work = asyncio.create_task(self._run(scope, body, messages))
        try:
            while batch := await _next(messages):
                for message in batch:
                    if message["type"] == "http.response.start":
                        message["headers"] = [*message["headers"], (b"x-unmul-replica", self._name)]
                yield batch
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError, Exception):  # it has told the client already
                await work

    async def _run(self, scope: dict[str, Any], body: bytes, messages: asyncio.Queue[Message | None]) -> None:
        received = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            for message in received:
                return message
            return await asyncio.Future()  # whoever leaves cancels

        try:
            await self._app({**scope, "asgi": {"version": "3.0"}, "root_path": ""}, receive, messages.put)
        finally:
            messages.put_nowait(None)


async def _next(messages: asyncio.Queue[Message | None]) -> list[Message]:
    """All messages that are there, at least one; none when the last one is out."""
    batch = [await messages.get()]
    while batch[-1] is not None and not messages.empty():
        batch.append(messages.get_nowait())
    if batch[-1] is None:
        messages.put_nowait(None)  # for the next call
    return [message for message in batch if message is not None]

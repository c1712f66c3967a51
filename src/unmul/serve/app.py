"""The HTTP application: routes over a service that is loaded while the server already listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response

from unmul import __version__
from unmul.serve.documents import ChatForm, CompletionForm
from unmul.serve.errors import LoadingError, NoSuchModelError, handle_errors
from unmul.serve.guard import Guard
from unmul.serve.metrics import Metrics
from unmul.serve.page import page_response
from unmul.serve.respond import respond
from unmul.serve.schema import ChatRequest, CompletionRequest
from unmul.serve.service import Limits, Service

__all__ = ["create_app"]

Document = dict[str, Any]


def create_app(
    load: Callable[[], Service],
    *,
    limits: Limits,
    key: str | None = None,
    loaded: Callable[[Service | Exception], None] = lambda _: None,
) -> FastAPI:
    """The application.

    Args:
        load: loads the model; called in a thread when the server starts.
        key: the API key; None asks for none.
        loaded: told on the event loop when the model is ready, or why it is not.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(app, load, loaded))
        yield
        await loading
        if app.state.service:
            await asyncio.to_thread(app.state.service.close)

    app = FastAPI(title="unmul", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service, app.state.metrics = None, Metrics()
    app.add_middleware(Guard, key=key, body_bytes=limits.body_bytes, answered=app.state.metrics.answered)
    handle_errors(app)
    _add_routes(app)
    return app


async def _load(app: FastAPI, load: Callable[[], Service], loaded: Callable[[Service | Exception], None]) -> None:
    try:
        service = await asyncio.to_thread(load)
    except Exception as error:
        loaded(error)
        return
    app.state.service = service
    app.state.metrics.watch(service)
    loaded(service)


async def _loaded(request: Request) -> Service:  # async: FastAPI would call a plain function in a thread
    if request.app.state.service is None:
        raise LoadingError
    service: Service = request.app.state.service
    return service


Loaded = Annotated[Service, Depends(_loaded)]


def _add_routes(app: FastAPI) -> None:
    app.get("/", include_in_schema=False)(page_response)
    app.get("/health")(_health)
    app.get("/metrics", response_class=Response)(_metrics)
    app.get("/v1/models")(_models)
    app.get("/v1/models/{name}")(_model)
    app.post("/v1/completions")(_completions)
    app.post("/v1/chat/completions")(_chat)
    app.post("/v1/sessions/{name}/stop")(_stop)


async def _health(_: Loaded) -> dict[str, str]:
    """200 when the model is ready, 503 before."""
    return {"status": "ok"}


async def _metrics(request: Request) -> Response:
    """Prometheus' text form."""
    return Response(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _models(service: Loaded) -> Document:
    """The one model that is served."""
    return {"object": "list", "data": [_described(service)]}


async def _model(service: Loaded, name: str) -> Document:
    """The same, by name."""
    _check_model(service, name)
    return _described(service)


async def _completions(service: Loaded, body: CompletionRequest, request: Request) -> Response:
    """Go on with a text."""
    _check_model(service, body.model)
    exchange, prompts = await service.start_completion(body)
    scores, writes = body.logprobs is not None, body.max_tokens != 0
    form = CompletionForm(service, prompts, body.n, scores=scores, echo=body.echo, writes=writes)
    return await respond(request, exchange, form, body, service.limits.ping_s)


async def _chat(service: Loaded, body: ChatRequest, request: Request) -> Response:
    """Answer the last message."""
    _check_model(service, body.model)
    exchange, prompts = await service.start_chat(body)
    form = ChatForm(service, prompts, body.n, scores=body.logprobs)
    return await respond(request, exchange, form, body, service.limits.ping_s)


async def _stop(service: Loaded, name: str) -> Document:
    """End the answer that a session is writing, with all its text: unlike leaving, which may miss its last tokens."""
    return {"session": name, "stopped": service.stop_session(name)}


def _check_model(service: Service, name: str | None) -> None:
    if name not in (None, service.name):
        raise NoSuchModelError(name or "", service.name)


def _described(service: Service) -> Document:
    config = service.config
    return {
        "id": service.name,
        "object": "model",
        "created": 0,
        "owned_by": "unmul",
        "meta": {
            "backend": service.engine.backend,
            "parameters": config.parameters,
            "file_bytes": service.file_bytes,
            "state_bytes": service.state_bytes,
            # Keys and values in 16 bits, for each layer: what a Transformer of this shape keeps of every token. As wide
            # as the residual stream: it has no token mixer that expand_ratio could widen.
            "transformer_cache_bytes_per_token": 2 * 2 * config.num_hidden_layers * config.hidden_size,
            "chat": service.chats,
            "energy_source": service.meter.source,
            "energy_reason": service.meter.reason,
        },
    }

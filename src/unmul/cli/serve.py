"""unmul serve: a packed model behind OpenAI's routes, and a page."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from unmul.cli.output import emit, megabytes, note
from unmul.errors import MissingExtraError
from unmul.runtime import embedded_model

if TYPE_CHECKING:
    from unmul.serve.service import Service

__all__ = ["serve"]

EXAMPLE = """-H 'Content-Type: application/json' -d '{"prompt": "Once upon a time", "max_tokens": 40}'"""


def serve(
    model: Path | None = None,
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    api_key_env: str | None = None,
    sessions: Path | None = None,
    slots: int = 64,
    queue: int = 256,
    state_memory: int = 256,
    threads: Annotated[int | None, Parameter(name=("--threads", "-t"))] = None,
    device: Literal["cpu", "cuda"] = "cpu",
    json: bool = False,
) -> None:
    """Serve a packed model: OpenAI's routes under /v1, and a page at /. Ctrl-C lets open answers finish, and ends.

    Args:
        model: folder of a packed model; without it, the model that comes with unmul.
        host: the address to listen on; other machines can reach the server only if it is not the default.
        port: the port to listen on; 0 takes a free one.
        api_key_env: name of the environment variable that holds the key that clients must send.
        sessions: folder where sessions survive a restart.
        slots: answers that are written at once.
        queue: prompts that wait beyond that; further ones are told to come back.
        state_memory: megabytes of cached states, and as much again for sessions.
        threads: one for each core when left out.
        device: where the model runs: cpu, or cuda for an NVIDIA GPU.
        json: write one JSON document when the server is ready.
    """
    try:
        import fastapi  # noqa: F401 - asked first, so that its absence is told from a broken install
    except ModuleNotFoundError:
        raise MissingExtraError("fastapi", "serve") from None
    from unmul.serve.guard import key_from
    from unmul.serve.run import Server, listen
    from unmul.serve.service import Limits

    limits, key = Limits(slots=slots, queue=queue, state_bytes=state_memory << 20), key_from(api_key_env)
    with listen(host, port) as listener:
        url = _url(host, listener.getsockname()[1])
        if key is None and not _is_loopback(host):
            note(f"warning: whoever reaches {url} may use it: --api-key-env asks for a key")
        server = Server(
            model or embedded_model(),
            device=device,
            threads=threads,
            limits=limits,
            sessions=sessions,
            key=key,
            ready=lambda service: _tell(service, url, json),
        )
        server.run([listener])
    if server.failure:
        raise server.failure


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _tell(service: Service, url: str, json: bool) -> None:
    backend = service.engine.backend
    if json:
        emit({"url": url, "model": service.name, "backend": backend, "state_bytes": service.state_bytes})
        return
    print(f"{service.name}: {megabytes(service.file_bytes)}, {megabytes(service.state_bytes)} a session, {backend}")
    print(f"next:  open {url} in a browser, or")
    print(f"       curl {url}/v1/completions {EXAMPLE}", flush=True)

"""An application on a socket until a signal ends it: open answers get some time to finish."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from unmul.errors import UsageError
from unmul.serve.app import create_app
from unmul.serve.service import Limits, Service, open_service

__all__ = ["Server", "listen"]

BACKSTOP_S = 5.0  # beyond the time for open answers: for clients that do not read


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. UsageError where the address cannot be had."""
    if not 0 <= port < 2**16:
        raise UsageError(f"port {port} does not exist", "choose 0 (any) to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        problem = f"{host} port {port} cannot be listened on ({error.strerror or error})"
        raise UsageError(problem, "choose another --host or --port") from None


class Server(uvicorn.Server):
    """A model on a socket.

    Args:
        ready: called when the model is loaded.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "cpu",
        threads: int | None = None,
        limits: Limits,
        sessions: Path | None = None,
        key: str | None = None,
        ready: Callable[[Service], None] = lambda _: None,
    ) -> None:
        self.failure: Exception | None = None
        self.service: Service | None = None
        self._limits, self._ready = limits, ready
        app = create_app(
            lambda: open_service(folder, device=device, threads=threads, limits=limits, sessions=sessions),
            limits=limits,
            key=key,
            loaded=self._loaded,
        )
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                # What uvicorn brings: httptools, if it happens to be installed, drops the connection after a 500.
                http="h11",
                loop="asyncio",
                ws="none",
                timeout_graceful_shutdown=int(limits.drain_s + BACKSTOP_S),
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End open answers in time, then the connections."""
        if self.service:
            self.service.worker.drain(self._limits.drain_s)
        await super().shutdown(sockets)

    def _loaded(self, outcome: Service | Exception) -> None:
        if isinstance(outcome, Exception):
            self.failure, self.should_exit = outcome, True
            return
        self.service = outcome
        self._ready(outcome)

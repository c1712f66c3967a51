"""One server for the tests of the routes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI
from servers import chatting, serving, slowed

from unmul.serve.run import Server


@pytest.fixture(scope="session")
def folder(speaker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random packed model that speaks and has a chat template."""
    return chatting(speaker, tmp_path_factory.mktemp("chat") / "parrot")


@pytest.fixture(scope="session")
def served(folder: Path) -> Iterator[tuple[str, Server]]:
    """It, served."""
    with serving(folder) as served:
        yield served


@pytest.fixture(scope="session")
def url(served: tuple[str, Server]) -> str:
    """Where."""
    return served[0]


@pytest.fixture(scope="session")
def client(url: str) -> Iterator[OpenAI]:
    """OpenAI's client of it."""
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
def slow_steps(served: tuple[str, Server], monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that takes its time."""
    monkeypatch.setattr(served[1].service.engine, "step", slowed(served[1], 0.01))

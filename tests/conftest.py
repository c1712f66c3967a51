"""Fixtures of the whole suite: reference data beside the repository, checkpoints, poisoned memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from models import latent_folder

from unmul.checkpoint import pack

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository; tests that need it skip where it is absent."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("no reference data: ../shared is absent")
    return folder


@pytest.fixture(scope="session")
def latent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random latent checkpoint; read only."""
    return latent_folder(tmp_path_factory.mktemp("model") / "latent")


@pytest.fixture(scope="session")
def packed(latent: Path) -> Path:
    """The same checkpoint, packed; read only."""
    folder = latent.parent / "packed"
    pack(latent, folder)
    return folder


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fresh PyTorch memory holds NaN, so that a kernel that forgets to write is seen."""
    import torch

    torch.use_deterministic_algorithms(True)  # with this, torch.empty fills what it returns
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)

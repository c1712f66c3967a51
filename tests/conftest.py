"""Fixtures of the whole suite: reference data beside the repository, checkpoints, poisoned memory."""

import lzma
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from models import WIDE, latent_folder
from speakers import speaking_packed

from unmul.checkpoint import pack

# Before PyTorch is loaded: on matrices as small as here, threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The order of a sum decides the last bits of an activation, and at a tie those decide a code: one order for every CPU.
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")
# A shell that starts the tests in the background ignores Ctrl-C for them and for all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported, so before any test module is

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository; tests that need it skip where it is absent."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("no reference data: ../shared is absent")
    return folder


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference model (latent) and vectors.safetensors, unpacked from tests/golden; read only."""
    source, folder = REPOSITORY / "tests" / "golden", tmp_path_factory.mktemp("golden")
    shutil.copyfile(source / "config.json", folder / "config.json")
    for name in ("model.safetensors", "vectors.safetensors"):
        (folder / name).write_bytes(lzma.decompress((source / f"{name}.xz").read_bytes()))
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


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random latent checkpoint whose token mixer is twice as wide; read only."""
    return latent_folder(tmp_path_factory.mktemp("wide") / "latent", WIDE)


@pytest.fixture(scope="session")
def wide_packed(wide: Path) -> Path:
    """The same checkpoint, packed; read only."""
    folder = wide.parent / "packed"
    pack(wide, folder)
    return folder


@pytest.fixture(scope="session")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random packed checkpoint with a tokenizer; its latent one is <name>.latent beside it; read only."""
    return speaking_packed(tmp_path_factory.mktemp("speaker") / "packed")


@pytest.fixture(scope="session")
def device() -> str:
    """Where Triton kernels are tested: compiled where there is a GPU, else through Triton's interpreter."""
    import torch

    triton = pytest.importorskip("triton")
    if torch.cuda.is_available():
        return "cuda"
    if triton.__version__.startswith("3.6."):
        pytest.skip("Triton 3.6's interpreter takes an array of one element for a number, which NumPy refuses: get 3.7")
    return "cpu"


@pytest.fixture
def fenced_memory(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Triton's interpreter, kernels that leave their tensors or race with themselves are refused: see fenced.py."""
    from fenced import fence

    if device == "cpu":
        fence(monkeypatch)


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Fresh PyTorch memory holds NaN, so that a kernel that forgets to write is seen."""
    import torch

    torch.use_deterministic_algorithms(True)  # with this, torch.empty fills what it returns
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)

"""What a user without a GPU, with an old one, or with a full one reads: one line each. No test here needs a GPU."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from unmul.cli.app import main
from unmul.engine import open_engine
from unmul.engine.cuda import device as device_module
from unmul.engine.cuda.device import Gpu
from unmul.errors import EngineError, MissingExtraError, UsageError


class Status(SimpleNamespace):
    """A status of the driver."""


GOOD, NO_DEVICE, FULL, BROKEN = (
    Status(value=value, name=name)
    for value, name in (
        (0, "CUDA_SUCCESS"),
        (100, "CUDA_ERROR_NO_DEVICE"),
        (2, "OUT_OF_MEMORY"),
        (700, "ILLEGAL_ADDRESS"),
    )
)


class FakeDriver:
    """A driver whose every call succeeds, with a GPU of 80 GiB that has 1 GiB free."""

    CUresult = SimpleNamespace(CUDA_SUCCESS=GOOD, CUDA_ERROR_NO_DEVICE=NO_DEVICE)
    CUdevice_attribute = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR="major",
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR="minor",
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT="processors",
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN="shared",
    )

    def __init__(self, capability: tuple[int, int] = (9, 0), **answers: Any) -> None:
        self.properties = {"major": capability[0], "minor": capability[1], "processors": 132, "shared": 232448}
        self.answers = {"cuMemAlloc": (GOOD, 4096), "cuMemGetInfo": (GOOD, 1 << 30, 80 << 30)} | answers

    def cuDeviceGetName(self, length: int, handle: int) -> tuple[Status, bytes]:
        return GOOD, b"NVIDIA Something\0\0"

    def cuDeviceGetAttribute(self, name: str, handle: int) -> tuple[Status, int]:
        return GOOD, self.properties[name]

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.answers.get(name, (GOOD, 1))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    def open_gpu(**options: Any) -> Gpu:
        driver = FakeDriver(**options)
        monkeypatch.setattr(device_module, "_load_driver", lambda: driver)
        return Gpu()

    return open_gpu


def test_a_gpu_says_what_it_is(gpu: Any) -> None:
    found = gpu()
    assert (found.name, found.arch, found.multiprocessors) == ("NVIDIA Something", "sm_90", 132)


def test_an_old_gpu_is_refused_by_name(gpu: Any) -> None:
    with pytest.raises(EngineError, match="NVIDIA Something is an sm_75, older than sm_80: choose --device cpu"):
        gpu(capability=(7, 5))


def test_a_full_gpu_says_what_is_free_and_what_is_needed(gpu: Any) -> None:
    found = gpu(cuMemAlloc=(FULL, 0))
    with pytest.raises(EngineError, match="has 1024 of 81920 MiB free, 3072 more are needed: end other programs"):
        found.allocate(3 << 30)
    assert found.allocated == 0


def test_what_is_freed_no_longer_counts(gpu: Any) -> None:
    found = gpu()
    address = found.allocate(1000)
    assert found.allocated == 1000
    found.free(address)
    assert found.allocated == 0


def test_a_failure_of_the_driver_is_one_line(gpu: Any) -> None:
    found = gpu(cuStreamSynchronize=(BROKEN,), cuMemcpyDtoHAsync=(GOOD,))
    with pytest.raises(EngineError, match=r"CUDA failed \(ILLEGAL_ADDRESS\): nvidia-smi says"):
        found.download(np.empty(1, np.float32), 4096)


def with_bindings(monkeypatch: pytest.MonkeyPatch, driver: Any) -> None:
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(bindings=SimpleNamespace(driver=driver)))
    monkeypatch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(driver=driver))


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MissingExtraError, match=r"cuda-bindings is not installed: pip install 'unmul\[cuda\]'"):
        Gpu()


def test_without_a_driver_the_cpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise RuntimeError("Failed to dlopen libcuda.so.1")

    with_bindings(monkeypatch, SimpleNamespace(cuInit=fail))
    with pytest.raises(EngineError, match="this machine has no NVIDIA driver: choose --device cpu"):
        Gpu()


def test_without_a_gpu_the_cpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with_bindings(monkeypatch, FakeDriver(cuInit=(NO_DEVICE,)))
    with pytest.raises(EngineError, match="the NVIDIA driver finds no GPU: choose --device cpu"):
        Gpu()


def test_the_command_line_says_it_in_one_line(packed, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    with_bindings(monkeypatch, FakeDriver(cuInit=(NO_DEVICE,)))
    assert main(["run", str(packed), "-p", "a", "--device", "cuda"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: the NVIDIA driver finds no GPU: choose --device cpu, nvidia-smi says more"
    ]


def test_threads_are_the_cpus_alone(packed) -> None:
    with pytest.raises(UsageError, match="threads 2 with device cuda: leave threads out"):
        open_engine(packed, device="cuda", threads=2)

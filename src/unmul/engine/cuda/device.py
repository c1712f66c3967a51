"""One NVIDIA GPU through the driver: memory, kernels, launches. Errors of the driver become one line each."""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from unmul.engine.cuda.compile import Defines, compiled
from unmul.errors import EngineError, MissingExtraError

__all__ = ["Argument", "Device", "Gpu", "Kernel"]

Argument = ctypes.Structure
Grid = tuple[int, int, int]

OLDEST = (8, 0)
COPIED, COPIES = 512 << 20, 7  # bytes and repetitions that measure bandwidth


class Kernel(Protocol):
    """A kernel that is ready to be launched."""

    def __call__(self, grid: Grid, threads: int, shared: int, *arguments: Argument, together: bool = False) -> None:
        """Queue a launch; with together, all blocks are on the GPU at once. shared is in bytes."""
        ...


class Device(Protocol):
    """What the engine asks of a GPU; the tests give it one that is emulated."""

    name: str
    multiprocessors: int
    shared_bytes: int  # of shared memory that one block may have

    @property
    def allocated(self) -> int:
        """Bytes of memory that were allocated and not freed."""
        ...

    def allocate(self, size: int) -> int:
        """Address of so many bytes, all zero; they live as long as the device object."""
        ...

    def free(self, address: int) -> None:
        """Give memory back before the device object ends."""
        ...

    def upload(self, address: int, values: npt.NDArray[Any]) -> None:
        """Copy an array to the device."""
        ...

    def download(self, values: npt.NDArray[Any], address: int) -> None:
        """Wait for all that was queued, then fill a contiguous array."""
        ...

    def kernel(self, source: str, name: str, defines: Defines) -> Kernel:
        """A kernel of a .cu file, compiled for this device."""
        ...

    def copy_bandwidth(self) -> float:
        """Bytes a second, read and written, of copies within the device's memory."""
        ...


class Gpu:
    """Device on the first NVIDIA GPU that CUDA shows.

    Raises:
        MissingExtraError: no CUDA library.
        EngineError: no driver, no GPU, or one below sm_80.
    """

    def __init__(self) -> None:
        self._driver = _load_driver()
        handle, self._context = _open(self._driver)
        self.name = _text(_checked(self._driver.cuDeviceGetName(96, handle)))
        major, minor = (self._property(handle, f"COMPUTE_CAPABILITY_{part}") for part in ("MAJOR", "MINOR"))
        if (major, minor) < OLDEST:
            raise EngineError(f"{self.name} is an sm_{major}{minor}, older than sm_80", "choose --device cpu")
        self.arch = f"sm_{major}{minor}"
        self.multiprocessors = self._property(handle, "MULTIPROCESSOR_COUNT")
        self.shared_bytes = self._property(handle, "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")
        self._local = threading.local()
        self._enter()
        self._stream = _checked(self._driver.cuStreamCreate(1))
        self._modules: dict[tuple[str, str], Any] = {}
        self._sizes: dict[int, int] = {}
        weakref.finalize(self, _release, self._driver, handle, self._context, self._modules, self._sizes)

    def allocate(self, size: int) -> int:
        """Address of so many bytes, all zero. EngineError says what was needed and what is free."""
        self._enter()
        status, address = self._driver.cuMemAlloc(size)
        if status != self._driver.CUresult.CUDA_SUCCESS:
            free, total = self.memory()
            raise EngineError(
                f"{self.name} has {free >> 20} of {total >> 20} MiB free, {size >> 20} more are needed",
                "end other programs on it, or choose --device cpu",
            )
        self._sizes[int(address)] = size
        _checked(self._driver.cuMemsetD8Async(address, 0, size, self._stream))
        self.synchronise()
        return int(address)

    @property
    def allocated(self) -> int:
        """Bytes of memory that were allocated and not freed."""
        return sum(self._sizes.values())

    def free(self, address: int) -> None:
        """Give memory back before the device object ends."""
        self._enter()
        del self._sizes[address]
        _checked(self._driver.cuMemFree(address))

    def upload(self, address: int, values: npt.NDArray[Any]) -> None:
        """Copy an array to the device."""
        self._enter()
        values = np.ascontiguousarray(values)
        _checked(self._driver.cuMemcpyHtoDAsync(address, values.ctypes.data, values.nbytes, self._stream))
        self.synchronise()

    def download(self, values: npt.NDArray[Any], address: int) -> None:
        """Wait for all that was queued, then fill a contiguous array."""
        self._enter()
        _checked(self._driver.cuMemcpyDtoHAsync(values.ctypes.data, address, values.nbytes, self._stream))
        self.synchronise()

    def kernel(self, source: str, name: str, defines: Defines) -> Kernel:
        """A kernel of a .cu file, compiled for this GPU."""
        self._enter()
        key = (source, repr(sorted(defines.items())))
        if key not in self._modules:
            self._modules[key] = _checked(self._driver.cuModuleLoadData(compiled(source, self.arch, defines)))
        function = _checked(self._driver.cuModuleGetFunction(self._modules[key], name.encode()))
        return _GpuKernel(self, function)

    def launch(
        self, function: Any, grid: Grid, threads: int, shared: int, arguments: Sequence[Argument], together: bool
    ) -> None:
        """Queue a launch of a function of a loaded module."""
        self._enter()
        pointers = np.array([ctypes.addressof(argument) for argument in arguments], np.uint64)
        start = self._driver.cuLaunchCooperativeKernel if together else self._driver.cuLaunchKernel
        last = () if together else (0,)
        _checked(start(function, *grid, threads, 1, 1, shared, self._stream, pointers.ctypes.data, *last))

    def allow_shared(self, function: Any, size: int) -> None:
        """Let a function have more shared memory than the usual 48 KiB."""
        self._enter()
        attribute = self._driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _checked(self._driver.cuFuncSetAttribute(function, attribute, size))

    def copy_bandwidth(self) -> float:
        """Bytes a second, read and written, of copies within the GPU's memory: the best of a few."""
        source, target = self.allocate(COPIED), self.allocate(COPIED)
        try:
            return 2 * COPIED / min(self._copy_seconds(source, target) for _ in range(COPIES))
        finally:
            self.free(source)
            self.free(target)

    def _copy_seconds(self, source: int, target: int) -> float:
        start, stop = (_checked(self._driver.cuEventCreate(0)) for _ in range(2))
        _checked(self._driver.cuEventRecord(start, self._stream))
        _checked(self._driver.cuMemcpyDtoDAsync(target, source, COPIED, self._stream))
        _checked(self._driver.cuEventRecord(stop, self._stream))
        self.synchronise()
        milliseconds = _checked(self._driver.cuEventElapsedTime(start, stop))
        for event in (start, stop):
            _checked(self._driver.cuEventDestroy(event))
        return float(milliseconds) / 1e3

    def memory(self) -> tuple[int, int]:
        """Free bytes and all bytes of the GPU."""
        self._enter()
        status, free, total = self._driver.cuMemGetInfo()
        _checked((status,))
        return int(free), int(total)

    def synchronise(self) -> None:
        """Wait for all that was queued."""
        self._enter()
        _checked(self._driver.cuStreamSynchronize(self._stream))

    def _enter(self) -> None:
        """The driver keeps the current context by thread, and the server calls from a thread of its own."""
        if not getattr(self._local, "entered", False):
            _checked(self._driver.cuCtxSetCurrent(self._context))
            self._local.entered = True

    def _property(self, handle: Any, name: str) -> int:
        attribute = getattr(self._driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(_checked(self._driver.cuDeviceGetAttribute(attribute, handle)))


class _GpuKernel:
    def __init__(self, gpu: Gpu, function: Any) -> None:
        self._gpu, self._function, self._shared = gpu, function, 0

    def __call__(self, grid: Grid, threads: int, shared: int, *arguments: Argument, together: bool = False) -> None:
        if shared > self._shared:
            self._gpu.allow_shared(self._function, shared)
            self._shared = shared
        self._gpu.launch(self._function, grid, threads, shared, arguments, together)


def _load_driver() -> Any:
    try:
        from cuda.bindings import driver
    except ModuleNotFoundError:
        raise MissingExtraError("cuda-bindings", "cuda") from None
    try:
        (status,) = driver.cuInit(0)
    except RuntimeError:
        raise EngineError("this machine has no NVIDIA driver", "choose --device cpu") from None
    if status == driver.CUresult.CUDA_ERROR_NO_DEVICE:
        raise EngineError("the NVIDIA driver finds no GPU", "choose --device cpu, nvidia-smi says more")
    _checked((status,))
    return driver


def _open(driver: Any) -> tuple[Any, Any]:
    handle = _checked(driver.cuDeviceGet(0))
    return handle, _checked(driver.cuDevicePrimaryCtxRetain(handle))


def _release(driver: Any, handle: Any, context: Any, modules: dict[Any, Any], addresses: dict[int, int]) -> None:
    driver.cuCtxSetCurrent(context)
    for address in addresses:
        driver.cuMemFree(address)
    for module in modules.values():
        driver.cuModuleUnload(module)
    driver.cuDevicePrimaryCtxRelease(handle)


def _checked(answer: tuple[Any, ...]) -> Any:
    """The result of a call of the driver, which gives its status first."""
    status, *result = answer
    if status.value != 0:
        raise EngineError(f"CUDA failed ({status.name})", "nvidia-smi says whether the GPU is sound")
    return result[0] if result else None


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")

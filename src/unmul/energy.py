"""One energy meter: the processor's counters (RAPL), a GPU's (NVML), or None and the reason why nothing is measured."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Meter", "Reading", "measure"]

POWERCAP = Path("/sys/class/powercap")


@dataclass(slots=True)
class Reading:
    """What a stretch of work cost; filled when it ends.

    Args:
        source: the meter, None where there is none; reason then says why.
        seconds, joules: of the stretch; joules is None where nothing was measured.
        idle_watts: what the device draws without work; None where that was not asked for.
    """

    source: str | None = None
    reason: str = ""
    seconds: float = 0.0
    joules: float | None = None
    idle_watts: float | None = None

    @property
    def joules_above_idle(self) -> float | None:
        """The joules without those that an idle device would have taken."""
        if self.joules is None or self.idle_watts is None:
            return None
        return self.joules - self.idle_watts * self.seconds


@contextmanager
def measure(device: str, *, idle_s: float = 0.0) -> Iterator[Reading]:
    """The energy of a block: `with measure("cpu") as reading: work()`, then reading.joules.

    Args:
        device: as in Meter.
        idle_s: seconds to wait before the block, in which the power of the idle device is measured.
    """
    with Meter(device) as meter:
        idle_watts = meter.idle_watts(idle_s) if idle_s else None
        with meter.measure() as reading:
            reading.idle_watts = idle_watts
            yield reading


class Meter:
    """Counts the joules of a device from now until it is closed. Never raises: what cannot be measured is None.

    Args:
        device: "cpu" is all processor packages of this machine, whoever uses them, without their memory;
            "cuda" or "cuda:1" the first or second GPU that CUDA shows this process, whoever uses it.

    Attributes:
        source: the meter in words, None where there is none.
        reason, remedy: why there is none, and what to do about it; otherwise empty.
    """

    def __init__(self, device: str) -> None:
        self.source: str | None = None
        self.reason = self.remedy = ""
        self._joules = 0.0
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._gauge: _Gauge | None = None
        try:
            self._gauge = _Rapl() if device == "cpu" else _Nvml(device)
        except _NoMeterError as error:
            self._lose(error)
            return
        self.source = self._gauge.source
        if self._gauge.period is not None:
            threading.Thread(target=self._keep_up, args=(self._gauge.period,), daemon=True).start()

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def joules(self) -> float | None:
        """Joules since the meter was opened."""
        with self._lock:
            if self._gauge is None:
                return None if self.source is None else self._joules
            try:
                self._joules += self._gauge.advance()
            except _NoMeterError as error:
                self._lose(error)
                return None
            return self._joules

    @contextmanager
    def measure(self) -> Iterator[Reading]:
        """The energy and the time of a block."""
        reading = Reading(self.source, self.reason)
        began, before = time.perf_counter(), self.joules()
        try:
            yield reading
        finally:
            after, reading.seconds = self.joules(), time.perf_counter() - began
            reading.joules = None if before is None or after is None else after - before
            reading.source, reading.reason = self.source, self.reason

    def idle_watts(self, seconds: float) -> float | None:
        """The mean power over so many seconds in which this process does nothing."""
        if self.source is None:
            return None
        with self.measure() as reading:
            time.sleep(seconds)
        return None if reading.joules is None else reading.joules / reading.seconds

    def close(self) -> None:
        """Count no further; joules() keeps what was counted."""
        self.joules()
        self._closed.set()
        with self._lock:
            if self._gauge is not None:
                self._gauge.close()
                self._gauge = None

    def _lose(self, error: _NoMeterError) -> None:
        self.source, self._gauge = None, None
        self.reason, self.remedy = error.args

    def _keep_up(self, period: float) -> None:
        while not self._closed.wait(period):
            self.joules()


class _NoMeterError(Exception):
    """There is no meter, or it went away: the reason and the remedy."""


class _Gauge(Protocol):
    """A counter of joules, which must be read at least every `period` seconds unless that is None."""

    source: str
    period: float | None

    def advance(self) -> float:
        """Joules since the last call, or since the gauge was made."""
        ...

    def close(self) -> None:
        """Give back what the gauge holds."""
        ...


class _Rapl:
    """The processor's counters, in microjoules, which begin again at zero after max_energy_range_uj."""

    period: float | None = 30.0  # the narrowest counters go round in five minutes at 200 W

    def __init__(self) -> None:
        # intel-rapl-mmio:0 repeats a package, intel-rapl:0:0 is a part of one, psys includes them.
        zones = [zone for zone in sorted(POWERCAP.glob("intel-rapl:*")) if _text(zone / "name").startswith("package")]
        if not zones:
            raise _NoMeterError(
                f"no RAPL counter of a processor package in {POWERCAP}",
                "measure on Linux on the machine itself: a virtual machine shows none to its guests",
            )
        self._zones = [(zone / "energy_uj", int(_text(zone / "max_energy_range_uj"))) for zone in zones]
        self._before = self._read()
        self.source = "RAPL " + " + ".join(_text(zone / "name") for zone in zones)

    def advance(self) -> float:
        now = self._read()
        spans = [span for _, span in self._zones]
        spent = sum((new - old) % span for new, old, span in zip(now, self._before, spans, strict=True))
        self._before = now
        return spent / 1e6

    def close(self) -> None:
        pass

    def _read(self) -> list[int]:
        return [int(_text(counter)) for counter, _ in self._zones]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except PermissionError:
        remedy = f"sudo chmod a+r {path.parent.parent}/intel-rapl:*/energy_uj, or run as root"
        raise _NoMeterError(f"{path} may only be read by root", remedy) from None
    except OSError as error:
        raise _NoMeterError(f"{path} cannot be read ({error.strerror})", "see `unmul doctor`") from None


class _Nvml:
    """A GPU's counter in millijoules; a GPU older than Volta has none, and its power is summed up instead."""

    def __init__(self, device: str) -> None:
        self._nvml = _start_nvml()
        try:
            self._gpu = _find_gpu(self._nvml, int(device.partition(":")[2] or 0))
            name = self._nvml.nvmlDeviceGetName(self._gpu)
            self._counts = self._has_counter()
            self._before, self._at = self._read(), time.perf_counter()
        except self._nvml.NVMLError as error:
            self.close()
            raise _NoMeterError(f"NVML does not measure {device} ({error})", "see `nvidia-smi`") from None
        self.source = f"NVML energy counter of {name}" if self._counts else f"NVML power of {name}, summed up"
        self.period: float | None = None if self._counts else 0.05

    def advance(self) -> float:
        try:
            new, now = self._read(), time.perf_counter()
        except self._nvml.NVMLError as error:
            raise _NoMeterError(f"NVML stopped measuring ({error})", "see `nvidia-smi`") from None
        old, seconds = self._before, now - self._at
        self._before, self._at = new, now
        return (new - old if self._counts else (new + old) / 2 * seconds) / 1000

    def close(self) -> None:
        self._nvml.nvmlShutdown()

    def _has_counter(self) -> bool:
        try:
            self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu)
        except self._nvml.NVMLError_NotSupported:
            return False
        return True

    def _read(self) -> int:
        """Millijoules counted so far, or milliwatts now."""
        read = self._nvml.nvmlDeviceGetTotalEnergyConsumption if self._counts else self._nvml.nvmlDeviceGetPowerUsage
        return int(read(self._gpu))


def _start_nvml() -> Any:
    try:
        import pynvml
    except ModuleNotFoundError:
        raise _NoMeterError("nvidia-ml-py is not installed", "pip install 'unmul[energy]'") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise _NoMeterError(f"NVML does not start ({error})", "install the NVIDIA driver") from None
    return pynvml


def _find_gpu(nvml: Any, index: int) -> Any:
    """The GPU that CUDA calls `index`; on a machine of unequal GPUs both agree under CUDA_DEVICE_ORDER=PCI_BUS_ID."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(index)] if shown is None else shown.split(",")[index:][:1]
    name = names[0].strip() if names else ""
    if name.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(name))
    return nvml.nvmlDeviceGetHandleByUUID(name)

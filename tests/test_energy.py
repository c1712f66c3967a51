"""unmul.energy: joules from a processor's counters in a made-up /sys, and from a made-up NVML."""

import contextlib
import sys
from types import SimpleNamespace

import pytest

from unmul import energy
from unmul.energy import Meter, Reading, measure

SPAN = 262_143_328_850  # microjoules: what a desktop processor's counter holds


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    """A machine of two packages, with the zones beside them that must not be counted; returns a function that sets a
    counter."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)

    def put(zone, microjoules, name=None):
        (tmp_path / zone).mkdir(exist_ok=True)
        (tmp_path / zone / "energy_uj").write_text(f"{microjoules}\n")
        (tmp_path / zone / "max_energy_range_uj").write_text(f"{SPAN}\n")
        if name:
            (tmp_path / zone / "name").write_text(f"{name}\n")

    for zone, name in {
        "intel-rapl:0": "package-0", "intel-rapl:1": "package-1", "intel-rapl:2": "psys", "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram", "intel-rapl-mmio:0": "package-0",
    }.items():  # fmt: skip
        put(zone, 5_000_000, name)
    return put


class FakeNvml(SimpleNamespace):
    """Two GPUs that have used so many millijoules, or draw so many milliwatts where they have no counter."""

    class NVMLError(Exception):
        pass

    class NVMLError_NotSupported(NVMLError):
        pass

    def __init__(self, *, counts=True):
        super().__init__(counts=counts, millijoules=[7_000, 9_000], milliwatts=100_000, users=0, broken=None)

    def nvmlInit(self):
        self.users += 1

    def nvmlShutdown(self):
        self.users -= 1

    def nvmlDeviceGetHandleByIndex(self, index):
        if index > 1:
            raise self.NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if not uuid.startswith("GPU-"):
            raise self.NVMLError("Not Found")
        return int(uuid[-1])

    def nvmlDeviceGetName(self, gpu):
        return f"GPU {gpu}"

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu):
        if self.broken:
            raise self.NVMLError(self.broken)
        if not self.counts:
            raise self.NVMLError_NotSupported("Not Supported")
        return self.millijoules[gpu]

    def nvmlDeviceGetPowerUsage(self, gpu):
        return self.milliwatts


@pytest.fixture
def nvml(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only in sleep()."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(energy.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(energy.time, "sleep", lambda seconds: setattr(clock, "now", clock.now + seconds))
    return clock


def test_joules_of_all_packages_are_added_and_their_parts_are_not(powercap):
    with measure("cpu") as reading:
        powercap("intel-rapl:0", 7_500_000)
        powercap("intel-rapl:1", 6_000_000)
        for other in ("intel-rapl:2", "intel-rapl:0:0", "intel-rapl:0:1", "intel-rapl-mmio:0"):
            powercap(other, 900_000_000)
    assert (reading.joules, reading.source, reading.reason) == (3.5, "RAPL package-0 + package-1", "")
    assert reading.seconds > 0


def test_a_counter_that_went_round_is_followed(powercap):
    with Meter("cpu") as meter:
        powercap("intel-rapl:0", SPAN - 1_000_000)
        before = meter.joules()
        powercap("intel-rapl:0", 2_000_000)
        assert meter.joules() - before == pytest.approx(3)


def test_the_meter_reads_by_itself_before_a_counter_can_go_round_twice(powercap, monkeypatch):
    monkeypatch.setattr(energy._Rapl, "period", 0.001)
    read, enough = [], energy.threading.Event()
    advance = energy._Rapl.advance
    monkeypatch.setattr(
        energy._Rapl, "advance", lambda gauge: (read.append(1), len(read) > 3 and enough.set(), advance(gauge))[-1]
    )
    with Meter("cpu"):
        assert enough.wait(30)


def test_power_at_rest_is_measured_apart_and_taken_off(powercap, clock, monkeypatch):
    used = 5_000_000

    def sleep(seconds):
        nonlocal used
        used += int(10e6 * seconds)
        powercap("intel-rapl:0", used)
        clock.now += seconds

    monkeypatch.setattr(energy.time, "sleep", sleep)
    with measure("cpu", idle_s=2) as reading:
        clock.now += 3
        powercap("intel-rapl:0", used + 100_000_000)
    assert (reading.idle_watts, reading.seconds, reading.joules) == (10, 3, 100)
    assert reading.joules_above_idle == 70


def test_without_a_reading_at_rest_nothing_is_taken_off():
    assert Reading("meter", joules=3.0, seconds=1).joules_above_idle is None
    assert Reading(reason="none", idle_watts=None).joules_above_idle is None


def test_a_counter_for_root_only_is_not_measured_and_says_how(powercap, monkeypatch, tmp_path):
    read_text = energy.Path.read_text

    def refuse(path, *given, **named):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_text(path, *given, **named)

    monkeypatch.setattr(energy.Path, "read_text", refuse)
    with Meter("cpu") as meter:
        assert (meter.source, meter.joules(), meter.idle_watts(60)) == (None, None, None)
        assert meter.reason == f"{tmp_path}/intel-rapl:0/energy_uj may only be read by root"
        assert meter.remedy == f"sudo chmod a+r {tmp_path}/intel-rapl:*/energy_uj, or run as root"


def test_a_machine_without_counters_is_not_measured_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "absent")
    with measure("cpu", idle_s=60) as reading:
        pass
    assert (reading.joules, reading.source, reading.idle_watts) == (None, None, None)
    assert "no RAPL counter of a processor package" in reading.reason


def test_a_counter_that_goes_away_ends_the_measurement_and_not_the_work(powercap, tmp_path):
    with measure("cpu") as reading:
        (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
    assert (reading.joules, reading.source) == (None, None)
    assert "intel-rapl:1/energy_uj cannot be read" in reading.reason


def test_a_closed_meter_keeps_what_it_counted(powercap):
    with Meter("cpu") as meter:
        powercap("intel-rapl:0", 6_000_000)
    powercap("intel-rapl:0", 8_000_000)
    assert meter.joules() == 1


def test_an_error_in_the_block_passes_and_the_reading_is_filled(nvml):
    with Meter("cuda") as meter:
        with contextlib.suppress(ZeroDivisionError), meter.measure() as reading:
            nvml.millijoules[0] += 2_500
            raise ZeroDivisionError
        assert reading.joules == 2.5
    assert nvml.users == 0


@pytest.mark.parametrize(
    ("visible", "device", "gpu"),
    [(None, "cuda", 0), (None, "cuda:1", 1), ("1", "cuda:0", 1), ("1, 0", "cuda:1", 0), ("GPU-aa1,GPU-aa0", "cuda", 1)],
)
def test_the_gpu_is_the_one_that_cuda_shows_this_process(nvml, monkeypatch, visible, device, gpu):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with measure(device) as reading:
        nvml.millijoules[gpu] += 4_000
    assert (reading.joules, reading.source) == (4, f"NVML energy counter of GPU {gpu}")


@pytest.mark.parametrize(("visible", "device"), [(None, "cuda:2"), ("", "cuda"), ("0", "cuda:1"), ("MIG-1", "cuda")])
def test_a_gpu_that_is_not_there_is_not_measured(nvml, monkeypatch, visible, device):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with measure(device) as reading:
        pass
    assert reading.joules is None
    assert reading.reason.startswith(f"NVML does not measure {device} (")
    assert nvml.users == 0


def test_the_power_of_a_gpu_without_a_counter_is_summed_up(nvml, clock, monkeypatch):
    nvml.counts = False
    monkeypatch.setattr(energy.threading.Thread, "start", lambda thread: None)
    with Meter("cuda") as meter:
        clock.now += 2
        assert meter.joules() == 200
        nvml.milliwatts = 200_000
        clock.now += 1
        assert meter.joules() == 350
        assert meter.source == "NVML power of GPU 0, summed up"


def test_a_gpu_that_fails_later_ends_the_measurement(nvml):
    with Meter("cuda") as meter:
        nvml.broken = "GPU is lost"
        assert meter.joules() is None
    assert meter.joules() is None
    assert meter.reason == "NVML stopped measuring (GPU is lost)"


def test_a_machine_without_the_driver_says_so(nvml, monkeypatch):
    def fails():
        raise nvml.NVMLError("NVML Shared Library Not Found")

    monkeypatch.setattr(nvml, "nvmlInit", fails)
    assert Meter("cuda").reason == "NVML does not start (NVML Shared Library Not Found)"


def test_an_absent_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    meter = Meter("cuda")
    assert (meter.reason, meter.remedy) == ("nvidia-ml-py is not installed", "pip install 'unmul[energy]'")


def test_the_made_up_library_has_the_names_of_the_real_one():
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    names = [name for name in vars(FakeNvml) if name.startswith(("nvml", "NVML"))]
    assert len(names) == 9
    assert all(hasattr(pynvml, name) for name in names)


@pytest.mark.gpu
def test_a_real_gpu_draws_some_power():
    meter = Meter("cuda")
    if meter.source is None:
        pytest.skip(f"not measured: {meter.reason}")
    assert meter.idle_watts(1.0) > 1
    meter.close()

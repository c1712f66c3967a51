"""train.meter: figures of a step."""

import pytest
import torch

from unmul.train import meter
from unmul.train.meter import Meter

GIB = 2**30


def meter_of(**changes):
    given = {"tokens_per_step": 500, "flops_per_token": 10**9, "device": torch.device("cpu"), "dtype": "bf16"}
    return Meter(**given | changes)


@pytest.fixture
def gpu(monkeypatch):
    """A device of 1 TFLOP/s that has held 3 GiB."""
    monkeypatch.setattr(meter, "peak_flops", lambda device: 1e12 if device.type == "cuda" else None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * GIB)
    return torch.device("cuda")


def test_speed_share_of_the_peak_and_memory_of_a_gpu(gpu):
    figures = meter_of(device=gpu).figures(2.0)
    assert figures == {"tokens_per_s": 250.0, "mfu": 0.25, "peak_memory_bytes": 3 * GIB}
    assert meter_of(device=gpu).shown(2.0) == "250 tokens/s  MFU 25.0%  3.0 GiB"


def test_the_share_is_unknown_on_a_cpu_and_in_float32(gpu):
    assert meter_of(device=gpu, dtype="fp32").figures(2.0)["mfu"] is None
    on_cpu = meter_of().figures(2.0)
    assert on_cpu["mfu"] is None
    assert on_cpu["peak_memory_bytes"] > 10**7
    assert "MFU" not in meter_of().shown(2.0)


def test_totals_grow_with_the_steps():
    assert meter_of().totals(3) == {"tokens": 1500, "flops": 1500 * 10**9}

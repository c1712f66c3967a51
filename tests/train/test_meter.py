"""train.meter: figures of a step, and joules from a meter to a figure."""

import json

import pytest
import torch

from unmul import energy
from unmul.cli.app import main
from unmul.plot import read_run
from unmul.train import load_recipe, meter, run
from unmul.train.meter import Energy, Meter
from unmul.train.world import World

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


class Together(World):
    """Two processes, of which the other one has counted 30 joules, or has no meter where those are None."""

    other: float | None = 30.0

    def total(self, numbers):
        return [mine + theirs for mine, theirs in zip(numbers, [self.other is None, self.other or 0.0], strict=True)]


@pytest.fixture
def joules(monkeypatch):
    """What the meters of this machine count."""
    counted = {"cpu": 4.0, "cuda:0": 100.0}

    class Counting(energy.Meter):
        def __init__(self, device):
            self.source, self.reason, self.device, self.closed = f"meter of {device}", "", device, False

        def joules(self):
            return counted[self.device]

        def close(self):
            self.closed = True

    monkeypatch.setattr(energy, "Meter", Counting)
    return counted


def test_joules_of_one_process_are_those_of_its_device(joules):
    with Energy(World(0, 1, torch.device("cuda:0"))) as spent:
        assert spent.joules() == 100
        assert spent.described() == ("meter of cuda:0", "")
    assert spent._meter.closed


def test_joules_of_all_gpus_are_added(joules):
    assert Energy(Together(1, 2, torch.device("cuda:0"))).joules() == 130


def test_processors_that_processes_share_are_counted_once(joules, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    spent = Energy(Together(1, 2, torch.device("cpu")))
    assert spent.joules() == 30
    assert spent.described() == (None, "another process counts")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert Energy(Together(0, 2, torch.device("cpu"))).joules() == 34


@pytest.mark.parametrize(("mine", "other"), [(None, 30.0), (4.0, None)])
def test_joules_are_unknown_where_one_process_has_no_meter(joules, monkeypatch, mine, other):
    joules["cpu"] = mine
    monkeypatch.setattr(Together, "other", other)
    assert Energy(Together(0, 2, torch.device("cpu"))).joules() is None


class Gauge:
    """A processor's counter that has gone on by five joules whenever it is read."""

    source, period = "made-up counter", None

    def advance(self):
        return 5.0

    def close(self):
        pass


def test_a_run_is_drawn_over_its_joules_also_after_it_was_resumed(recipe_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(energy, "_Rapl", Gauge)
    for seconds in (0.001, 0):
        recipe = load_recipe(recipe_file, ["train.steps=3", "train.device=cpu", f"train.max_seconds={seconds}"])
        result = run(recipe, out=tmp_path / "run", resume=True, lines=True)
    assert (result.joules, result.joules_source) == (20, "made-up counter")  # three steps and the validation
    main(["plot", str(tmp_path / "run"), "--x", "joules", "--out", str(tmp_path / "loss.svg"), "--json"])
    drawn = json.loads(capsys.readouterr().out)
    assert (drawn["x"], drawn["runs"][0]["joules"]) == ("joules", 15)
    assert read_run(tmp_path / "run").steps["joules"].tolist() == [5, 10, 15]
    assert (tmp_path / "loss.svg").read_text().startswith("<?xml")

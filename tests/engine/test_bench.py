"""The measurement itself: real folders, a process of its own, plausible figures."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
from models import TINY, WIDE

from unmul import energy
from unmul.checkpoint import PackedCheckpoint
from unmul.config import ModelConfig
from unmul.engine import bench
from unmul.engine.bench import BenchRequest, measure, measure_here, write_random
from unmul.engine.cpu import CpuEngine
from unmul.errors import EngineError, UsageError

PHASES = {"embeddings", "norms", "quantise", "products", "gates", "scan", "head", "barriers"}


@pytest.fixture(scope="module")
def random_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "random"
    write_random(folder, TINY)
    return folder


@pytest.mark.parametrize("config", [TINY, WIDE], ids=["tiny", "wide"])
def test_random_folder_is_a_sound_packed_model(config: ModelConfig, tmp_path: Path) -> None:
    write_random(tmp_path / "random", config)
    packed = PackedCheckpoint.open(tmp_path / "random")
    assert packed.config == config
    shares = np.bincount(packed.codes("lm_head.weight").ravel() + 1) / (config.vocab_size * config.hidden_size)
    assert np.abs(shares - 1 / 3).max() < 0.05
    engine = CpuEngine(packed)
    logits = engine.forward([1, 2, 3], engine.new_state())
    assert 0.01 < np.abs(logits).mean() < 100


def test_measure_reports_the_engine_and_its_memory(random_folder: Path) -> None:
    report = measure(random_folder, BenchRequest(threads=1, prompt=5, new=3))
    assert report.backend.endswith("1 thread")
    assert report.threads == 1
    assert report.prefill_spread[0] <= report.prefill_tokens_per_s <= report.prefill_spread[1]
    assert 0 < report.decode_spread[0] <= report.decode_tokens_per_s <= report.decode_spread[1]
    assert report.bandwidth_GBs == pytest.approx(report.weight_bytes * report.decode_tokens_per_s / 1e9)
    assert report.file_bytes == (random_folder / "model.safetensors").stat().st_size
    assert report.peak_rss_bytes is None or report.peak_rss_bytes > 10**7
    assert (report.joules_per_token is None) == (report.joules_source is None) == bool(report.joules_reason)
    assert report.bandwidth_share == pytest.approx(report.bandwidth_GBs / report.machine_GBs)
    assert report.profile is None


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A processor whose counter moves by a joule at every reading."""
    zone = tmp_path / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    for name, text in (("name", "package-0"), ("max_energy_range_uj", "262143328850"), ("energy_uj", "0")):
        (zone / name).write_text(text)
    joules = itertools.count()
    monkeypatch.setattr(energy, "POWERCAP", zone.parent)
    monkeypatch.setattr(energy._Rapl, "_read", lambda gauge: [1_000_000 * next(joules)])
    return zone


def test_joules_are_those_of_a_token_of_decode(random_folder: Path, powercap: Path, monkeypatch) -> None:
    monkeypatch.setattr(bench, "IDLE_S", 0.01)
    report = measure_here(random_folder, BenchRequest(threads=1, prompt=5, new=4, batch=5, runs=3))
    assert report.joules_per_token == pytest.approx(1 / 20)
    assert 0 < report.idle_watts <= 1 / 0.01
    assert report.joules_per_token_above_idle < report.joules_per_token
    assert (report.joules_source, report.joules_reason) == ("RAPL package-0", "")


@pytest.mark.parametrize("batch", [1, 3])
def test_phases_of_a_profile_add_up_to_the_time_of_a_token(random_folder: Path, batch: int) -> None:
    report = measure(random_folder, BenchRequest(threads=2, prompt=7, new=40, batch=batch, profile=True))
    assert report.batch == batch
    assert report.profile is not None
    for seconds in report.profile.values():
        assert set(seconds) == PHASES
        assert all(spent > 0 for spent in seconds.values())
    assert sum(report.profile["decode"].values()) > report.profile["decode"]["products"]


def test_native_phases_cover_the_pass(random_folder: Path) -> None:
    engine = CpuEngine(PackedCheckpoint.open(random_folder), threads=1)
    ids = [1] * 2000
    with engine.profile() as phases:
        start = time.perf_counter()
        engine.forward(ids, engine.new_state())
        total = time.perf_counter() - start
    assert set(phases) == PHASES
    assert 0 < sum(phases.values()) <= total
    before = dict(phases)
    engine.forward(ids, engine.new_state())
    assert engine._model.phases() == before


def test_counts_below_one_are_refused() -> None:
    with pytest.raises(UsageError, match="new 0 cannot be measured"):
        BenchRequest(new=0)


def test_a_folder_that_cannot_be_loaded_is_reported(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is not a folder"):
        measure(tmp_path / "absent", BenchRequest(threads=1, prompt=1, new=1))

"""The measurement itself: real folders, a process of its own, plausible figures."""

from pathlib import Path

import numpy as np
import pytest
from models import TINY

from unmul.checkpoint import PackedCheckpoint
from unmul.engine.bench import measure, write_random
from unmul.engine.cpu import CpuEngine
from unmul.errors import EngineError, UsageError


@pytest.fixture(scope="module")
def random_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench") / "random"
    write_random(folder, TINY)
    return folder


def test_random_folder_is_a_sound_packed_model(random_folder: Path) -> None:
    packed = PackedCheckpoint.open(random_folder)
    assert packed.config == TINY
    shares = np.bincount(packed.codes("lm_head.weight").ravel() + 1) / (TINY.vocab_size * TINY.hidden_size)
    assert np.abs(shares - 1 / 3).max() < 0.05
    engine = CpuEngine(packed)
    logits = engine.forward([1, 2, 3], engine.new_state())
    assert 0.01 < np.abs(logits).mean() < 100


def test_measure_reports_the_engine_and_its_memory(random_folder: Path) -> None:
    report = measure(random_folder, threads=1, prompt=5, new=3, runs=5)
    assert report.backend.endswith("1 thread")
    assert report.threads == 1
    assert report.prefill_spread[0] <= report.prefill_tokens_per_s <= report.prefill_spread[1]
    assert 0 < report.decode_spread[0] <= report.decode_tokens_per_s <= report.decode_spread[1]
    assert report.bandwidth_GBs == pytest.approx(report.weight_bytes * report.decode_tokens_per_s / 1e9)
    assert report.file_bytes == (random_folder / "model.safetensors").stat().st_size
    assert report.peak_rss_bytes is None or report.peak_rss_bytes > 10**7
    assert report.joules_per_token is None
    assert report.joules_reason


def test_counts_below_one_are_refused(random_folder: Path) -> None:
    with pytest.raises(UsageError, match="new 0 cannot be measured"):
        measure(random_folder, threads=1, prompt=5, new=0)


def test_a_folder_that_cannot_be_loaded_is_reported(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is not a folder"):
        measure(tmp_path / "absent", threads=1, prompt=1, new=1)

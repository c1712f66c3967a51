"""benchmarks/train/scaling.py runs without a GPU, on the smallest model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "benchmarks" / "train" / "scaling.py"


@pytest.mark.slow
def test_the_scaling_benchmark_compares_losses_and_writes_its_report(tmp_path):
    setting = ["--device", "cpu", "--dtype", "fp32", "--batch", "1", "--context", "32", "--steps", "2", "--rounds", "1"]
    command = [sys.executable, PROGRAM, "tiny", *setting, "--kinds", "ddp", "--out", tmp_path / "report.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    one, two = json.loads((tmp_path / "report.json").read_text())["variants"]
    assert (one["processes"], one["batch"], two["processes"], two["batch"]) == (1, 1, 2, 2)
    assert one["losses"] != two["losses"]  # twice the windows an update
    assert two["least"] <= two["tokens_per_s"] <= two["most"]

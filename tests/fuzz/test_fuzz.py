"""A short run of every fuzzer, the same each time; CONTRIBUTING.md has the long one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.targets import TARGETS, Latent

pytest.importorskip("atheris", reason="atheris is for Linux on x86-64")

RUNS = {
    "tensors": 5000,
    "latent": 4000,
    "packed": 3000,
    "tokenizer": 5000,
    "listing": 20_000,
    "program": 20_000,
    "request": 800,
}
BROKEN = """
import fuzz.targets
from fuzz.__main__ import TARGETS, run, Path

sound = fuzz.targets.Latent.read

def broken(self, data):
    if b'"dtype": 7' in data: raise KeyError(7)
    sound(self, data)

fuzz.targets.Latent.read = broken
run(TARGETS["latent"](Path("work")), ["-runs=20000", "-seed=1", "-rss_limit_mb=0"])
"""  # no limit: to the system, the peak of a process begins with that of whoever started it, here of a whole test run


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_our_own_errors_comes_of_damaged_bytes(name, tmp_path):
    done = python(tmp_path, "-m", "fuzz", name, f"-runs={RUNS[name]}", "-seed=1")
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
    assert f"Done {RUNS[name]} runs" in done.stderr
    assert list(tmp_path.iterdir()) == []


# The server lives as long as its process, so its target never runs in this one.
@pytest.mark.parametrize("name", [name for name in TARGETS if name != "request"])
def test_a_sound_seed_is_read(name, tmp_path):
    target = TARGETS[name](tmp_path)
    target.read(next(iter(target.seeds())))


def test_a_fault_behind_the_parser_is_found_and_its_input_kept(tmp_path):
    (tmp_path / "work").mkdir()
    done = python(tmp_path, "-c", BROKEN)
    assert done.returncode != 0
    assert "KeyError: 7" in done.stdout + done.stderr
    (kept,) = tmp_path.glob("crash-*")
    assert b'"dtype": 7' in kept.read_bytes()
    Latent(tmp_path)(kept.read_bytes())  # the true target refuses it as it should

"""A user trains on two processes, is preempted, goes on with one, packs and runs."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from speakers import run_unmul

WORDS = "the a little cat dog ran home and saw red moon she said hello"
RECIPE = """
[model]
hidden_size = 32
intermediate_size = 48
num_hidden_layers = 2
[data]
text = "text.txt"
validation = 0.05
vocab_size = 300
[train]
steps = 400
batch = 2
context = 32
device = "cpu"
dtype = "fp32"
validate_every = 1000
checkpoint_every = 1000
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def recipe(tmp_path) -> Path:
    stories = np.random.default_rng(0).choice(WORDS.split(), (150, 40)).tolist()
    (tmp_path / "text.txt").write_text("\n<|endoftext|>\n".join(map(" ".join, stories)))
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return tmp_path / "tiny.toml"


def torchrun(recipe: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["-m", "unmul", "train", str(recipe), "--out", str(recipe.parent / "out"), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def steps(log: Path) -> list[int]:
    lines = log.read_text().splitlines() if log.exists() else []
    return [line["step"] for line in map(json.loads, lines) if "loss" in line]


def test_a_user_trains_on_two_processes_is_preempted_goes_on_with_one_packs_and_runs(recipe):
    log, process = recipe.parent / "out" / "log.jsonl", torchrun(recipe, "--set", "train.parallel=fsdp")
    deadline = time.monotonic() + 60
    while len(steps(log)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    answer, said = process.communicate(timeout=60)
    assert steps(log), said
    done = steps(log)[-1]
    assert answer == ""
    assert said.count(f"stopped by SIGTERM after step {done}, saved.") == 1
    assert "--nproc-per-node 2 unmul train" in said
    assert "Warning" not in said
    assert [path.name for path in log.parent.glob("*step-*")] == [f"step-{done:07}"]

    last = f"train.steps={done + 2}"
    refused = run_unmul("train", recipe, "--out", log.parent, "--resume", "--set", last)
    assert refused.returncode == 2
    assert f"train.steps is {done + 2}" in refused.stderr

    finished = run_unmul("train", recipe, "--out", log.parent, "--resume", "--json")
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["steps"] == 400
    assert steps(log) == list(range(1, 401))
    assert run_unmul("pack", log.parent / "step-0000400", recipe.parent / "packed").returncode == 0
    spoken = run_unmul("run", recipe.parent / "packed", "-p", "the", "-n", "8", "--json")
    assert len(json.loads(spoken.stdout)["new_ids"]) == 8


def test_what_two_processes_cannot_do_is_said_once(recipe):
    answer, said = torchrun(recipe, "--set", "train.batch=3").communicate(timeout=120)
    assert answer == ""
    assert said.count("error: train.batch 3 cannot be shared evenly by 2 processes") == 1
    assert said.count("error: ") == 1

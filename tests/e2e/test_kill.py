"""kill -9 at any moment of a write leaves the old file or the new one, whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
RECIPE = """
[model]
hidden_size = 32
intermediate_size = 48
num_hidden_layers = 2
[data]
text = "text.txt"
vocab_size = 257
[train]
steps = 20
batch = 2
context = 32
device = "cpu"
dtype = "fp32"
validate_every = 20
checkpoint_every = 1
"""


def survives(writer: str, folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "killed", writer, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("writer", ["pack", "session"])
def test_a_writer_that_is_killed_leaves_one_whole_version(writer, tmp_path):
    survives(writer, tmp_path)


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_goes_on_from_whole_checkpoints(tmp_path):
    (tmp_path / "text.txt").write_text("\n<|endoftext|>\n".join(f"{k} little cats ran home" for k in range(400)))
    (tmp_path / "tiny.toml").write_text(RECIPE)
    survives("train", tmp_path)

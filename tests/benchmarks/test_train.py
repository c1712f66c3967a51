"""The training benchmarks on a CPU and tiny shapes: what they measure is the GPU's, how they do it is tested here."""

import json
import runpy
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own imports

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "train"
RECIPE = """
[model]
hidden_size = 8
intermediate_size = 12
num_hidden_layers = 1
[data]
text = "text.txt"
validation = "text.txt"
vocab_size = 257
[train]
steps = 2
batch = 1
context = 5
dtype = "fp32"
"""


@pytest.fixture
def benchmark(monkeypatch, capsys):
    """Run a script as from the command line; returns what it printed."""

    def run(name, *words):
        monkeypatch.setattr(sys, "path", [*sys.path])  # the script adds its neighbour's folder
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(BENCHMARKS / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def steps(benchmark, tmp_path, *words):
    out = tmp_path / "out.json"
    said = benchmark("step.py", "tiny", "--device", "cpu", "--rounds", "2", "--out", out, *words)
    return said, json.loads(out.read_text())["results"]["tiny"]


def test_both_models_are_timed_on_every_batch_and_compared(benchmark, tmp_path):
    said, found = steps(benchmark, tmp_path, "--variants", "ours,ours-int8,llama,ours-graph", "--batches", "2x32,1x65")
    assert list(found) == ["2x32", "1x65"]
    for batch, count in (("2x32", 64), ("1x65", 65)):
        for name in ("ours", "ours-int8", "llama"):
            note = found[batch][name]
            assert note["tokens_per_s"] == pytest.approx(count / note["median_ms"] * 1e3)
            assert 4 < note["first_loss"] < 7
        assert found[batch]["ours-graph"] == {"failed": "RuntimeError: graphs need CUDA"}
        assert f"tiny {batch} best of ours / best Llama: " in said


def test_what_would_pass_the_time_limit_is_left_out_and_said(benchmark, tmp_path):
    said, found = steps(benchmark, tmp_path, "--variants", "ours,llama", "--batches", "2x32", "--seconds", "0")
    assert found["2x32"] == {"ours": {"skipped": "no time left"}, "llama": {"skipped": "no time left"}}
    assert "no time left" in said


def curves(benchmark, tmp_path, *words):
    pytest.importorskip("matplotlib")
    (tmp_path / "tiny.toml").write_text(RECIPE)
    (tmp_path / "text.txt").write_text("The cat saw the dog and ran home.")
    found = json.loads(benchmark("curves.py", tmp_path / "tiny.toml", "--out", tmp_path / "out", *words))
    assert {folder.parent.name for folder in (tmp_path / "out").glob("*/log.jsonl")} == set(found)
    assert all(name in (tmp_path / "out" / "curves.svg").read_text() for name in found)
    return {name: run["from_plain"] for name, run in found.items()}


@pytest.mark.slow
def test_fused_curves_lie_on_the_naive_ones(benchmark, tmp_path):
    pytest.importorskip("triton")
    found = curves(benchmark, tmp_path)
    assert found["naive"] == 0 < found["fused"] < 1e-3 < found["naive-seed2"]


@pytest.mark.slow
def test_curves_with_8_bit_gradients_lie_nearer_than_another_seed(benchmark, tmp_path):
    found = curves(benchmark, tmp_path, "--compare", "int8", "--set", "train.lr=0.1")
    assert found["naive"] == 0 < found["int8"] < found["naive-seed2"]

"""The programs of examples/ do what their first lines say."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from speakers import SPEAKER, run_unmul, speaking_latent

import unmul
from unmul import SamplingParams

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def example(name, *words):
    command = [sys.executable, EXAMPLES / name, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_engine_is_embedded_and_both_endings_go_on_from_one_beginning():
    done = example("embed.py")
    assert done.returncode == 0, done.stderr
    beginning, but, then, *words = done.stdout.splitlines()
    text = beginning.removeprefix("Once upon a time").removesuffix(" ...")
    pieces = unmul.load().generate("Once upon a time", max_new_tokens=20, sampling=SamplingParams(seed=1))
    assert text == "".join(pieces)
    assert but.startswith("... But")
    assert then.startswith("... Then")
    assert len(words) == 3
    assert all(re.fullmatch(r" *[\d.]+% '.*'", word) for word in words)


def test_a_published_folder_in_shards_and_bf16_is_converted_and_runs(tmp_path):
    latent = speaking_latent(tmp_path / "published", dtype="bfloat16", shard_bytes=40_000)
    assert len(list(latent.glob("model-*-of-*.safetensors"))) > 2
    config = json.loads((latent / "config.json").read_text()) | {"transformers_version": "4.40.0", "attn_mode": "fused"}
    (latent / "config.json").write_text(json.dumps(config))
    done = example("convert.py", latent, tmp_path / "packed")
    assert done.returncode == 0, done.stderr
    assert f"{SPEAKER.parameters:,} parameters" in done.stdout
    assert "\nIn a shocking finding," in done.stdout


def test_a_folder_that_cannot_be_converted_is_one_line(tmp_path):
    done = example("convert.py", tmp_path / "nothing", tmp_path / "packed")
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*nothing is not a folder.*\n", done.stderr)


@pytest.mark.slow
def test_the_embedded_model_is_tuned_on_a_text_and_packed(tmp_path):
    (tmp_path / "mine.txt").write_text(
        "\n<|endoftext|>\n".join(f"The king had {k} cows and {k} goats. " * 20 for k in range(60))
    )
    overrides = ("--set", "data.text=mine.txt", "--set", "train.steps=20", "--set", "train.validate_every=20")
    done = run_unmul("train", EXAMPLES / "finetune.toml", *overrides, "--out", "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    losses = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    first = next(line["loss"] for line in losses if "loss" in line)
    assert first < 5.5, "a model that begins at nothing has ln 2048 = 7.6"
    assert report["final_loss"] < first
    assert run_unmul("pack", report["checkpoint"], "packed", cwd=tmp_path).returncode == 0
    done = run_unmul("run", "packed", "-p", "The king", "-n", "5", "--temp", "0", cwd=tmp_path)
    assert (done.returncode, bool(done.stdout.strip())) == (0, True)

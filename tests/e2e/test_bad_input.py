"""Whatever a user gives, the answer is one clear line, exit status 2, and nothing half-written."""

import json
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from models import latent_tensors
from speakers import SPEAKER, run_unmul, speaking_latent

from unmul.checkpoint import save_latent


@pytest.fixture
def copy(speaker, tmp_path) -> Path:
    """A packed folder to damage."""
    return shutil.copytree(speaker, tmp_path / "copy")


def refused(line: str, *words: str | Path, **options) -> None:
    """The command is refused with one line that says this."""
    done = run_unmul(*words, **options)
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert line in done.stderr
    assert done.returncode == 2


def edit_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_empty_prompt(speaker):
    refused("the prompt is empty", "run", speaker, "-p", "")
    refused("the prompt is empty", "run", speaker, input="")


def test_json_session_needs_no_terminal_to_say_that_the_prompt_is_empty(speaker):
    refused("the prompt is empty", "run", speaker, "--json")


def test_a_very_long_prompt_is_served(speaker):
    done = run_unmul("run", speaker, "-n", "3", "--seed", "1", "--json", input="one by one " * 20_000)
    found = json.loads(done.stdout)
    assert len(found["prompt_ids"]) > 40_000
    assert len(found["new_ids"]) == 3


def test_prompt_that_is_not_utf8(speaker):
    refused("standard input is not UTF-8 at byte 3", "run", speaker, input="one\udcff", errors="surrogateescape")
    refused("not valid UTF-8 at character 3", "run", speaker, "-p", "one\udcff")


def test_text_that_is_not_utf8(speaker, tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    refused("latin.txt is not UTF-8 at byte 3", "eval", speaker, "--text", tmp_path / "latin.txt")


def test_text_that_is_absent_or_empty(speaker, tmp_path):
    (tmp_path / "empty.txt").touch()
    refused("absent.txt does not exist", "eval", speaker, "--text", tmp_path / "absent.txt")
    refused("empty.txt holds no text", "eval", speaker, "--text", tmp_path / "empty.txt")
    refused("--limit 0 leaves nothing", "eval", speaker, "--text", tmp_path / "empty.txt", "--limit", "0")


def test_unknown_preset():
    refused("7b is neither a folder nor a preset: give a checkpoint folder, or one of 370m", "info", "7b")


def test_model_that_does_not_exist(tmp_path):
    refused("nothing is not a folder", "run", tmp_path / "nothing", "-p", "a")
    refused("has no config.json", "run", tmp_path, "-p", "a")


def test_latent_folder_names_the_command_that_packs_it(speaker):
    latent = speaker.with_name("packed.latent")
    refused(f"unmul pack {latent}", "run", latent, "-p", "a")


@pytest.mark.parametrize("keep", [0, 7, 1000, -1])
def test_truncated_packed_file(copy, keep):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    refused("copy", "run", copy, "-p", "a")


@pytest.mark.parametrize("at", [3, 100, -1])
def test_bit_flipped_packed_file(copy, at):
    flip(copy / "model.safetensors", at)
    refused("is damaged", "run", copy, "-p", "a")
    refused("is damaged", "info", copy)


def test_config_that_is_no_json(copy):
    (copy / "config.json").write_text('{"model_type": ')
    refused("config.json cannot be read", "run", copy, "-p", "a")


def test_more_than_one_head(copy):
    edit_config(copy, num_heads=2)
    refused("config.json: num_heads 2 is not supported: set it to 1", "run", copy, "-p", "a")


def test_missing_tokenizer(copy, tmp_path):
    (copy / "tokenizer.json").unlink()
    (tmp_path / "text.txt").write_text("one")
    refused("has no tokenizer.json", "run", copy, "-p", "a")
    refused("has no tokenizer.json", "eval", copy, "--text", tmp_path / "text.txt")


def test_nan_weights_are_named_and_nothing_is_written(tmp_path):
    tensors = latent_tensors(SPEAKER)
    tensors["model.layers.1.mlp.down_proj.weight"][3, 5] = np.nan
    save_latent(tmp_path / "latent", SPEAKER, tensors.__getitem__)
    refused("model.layers.1.mlp.down_proj.weight holds NaN", "pack", tmp_path / "latent", tmp_path / "packed")
    assert [path.name for path in tmp_path.iterdir()] == ["latent"]


def test_packing_twice(speaker, tmp_path):
    refused("is packed already", "pack", speaker, tmp_path / "packed")
    assert list(tmp_path.iterdir()) == []


def test_targets_that_are_not_ours_are_left_alone(tmp_path):
    latent = speaking_latent(tmp_path / "latent")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/diary.txt").write_text("dear diary")
    (tmp_path / "file").write_text("mine")
    run = speaking_latent(tmp_path / "run")
    (run / "optimizer.pt").write_text("a week of training")
    refused("notes exists and is not a checkpoint", "pack", latent, tmp_path / "notes")
    refused("file exists and is not a checkpoint", "pack", latent, tmp_path / "file")
    refused("run also holds optimizer.pt, which would be lost", "pack", latent, run)
    refused("would replace its own source", "pack", latent, latent)
    refused("cannot be written", "pack", latent, tmp_path / "file/packed")
    assert (tmp_path / "notes/diary.txt").read_text() == "dear diary"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "latent", "notes", "run"]


def test_full_disk_leaves_nothing_behind(tmp_path):
    latent = speaking_latent(tmp_path / "latent")

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    refused("packed cannot be written", "pack", latent, tmp_path / "packed", preexec_fn=fill)
    assert [path.name for path in tmp_path.iterdir()] == ["latent"]


def test_sampling_that_makes_no_sense(speaker):
    refused("temperature -1.0 cannot be used", "run", speaker, "-p", "a", "--temp", "-1")
    refused("top_p 0.0 cannot be used", "run", speaker, "-p", "a", "--top-p", "0")
    refused("threads 0 cannot be used", "run", speaker, "-p", "a", "-t", "0")
    refused("threads 2 with device cuda", "run", speaker, "-p", "a", "--device", "cuda", "-t", "2")
    refused("choose 1 or more", "run", speaker, "-p", "a", "-n", "0")

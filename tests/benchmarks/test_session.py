"""Calls on a borrowed machine: parts of the corpus that come one by one, what goes home, a model after every call."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from unmul.checkpoint import PackedCheckpoint
from unmul.data import Files, Source, open_shards

ROOT = Path(__file__).parents[2]
RECIPE = """
[model]
hidden_size = 8
intermediate_size = 12
num_hidden_layers = 2
[data]
shards = "nowhere"
[train]
steps = 9
batch = 1
context = 5
dtype = "fp32"
"""


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    """The scripts import one another as neighbours."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "parity"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A corpus of 30 documents in two folders, one with each part."""
    folder = tmp_path_factory.mktemp("corpus")
    documents = (f"document {k} says that a small cat ran home. " * (1 + k % 3) for k in range(30))
    (folder / "text.txt").write_text("\n<|endoftext|>\n".join(documents))
    text = Files(paths=(folder / "text.txt",))
    open_shards(folder / "shards", Source(text=text, validation=0.2, vocab_size=300), lines=True)
    carry = [sys.executable, ROOT / "tools" / "carry_shards.py", "pack", folder / "shards"]
    for here, other in ((0, 1), (1, 0)):
        subprocess.run([*carry, folder / f"{here}", "--validation", "1"], check=True)
        (folder / f"{here}" / f"train-{other:05}.xz").unlink()
    return folder


def test_nothing_begins_before_all_parts_have_come_and_then_all_of_them_are_there(parts, tmp_path, capsys):
    from session import corpus

    assert corpus(parts / "0", 2, tmp_path / "work") is None
    assert "1 of 2 parts" in capsys.readouterr().out
    found = corpus(parts / "1", 2, tmp_path / "work")
    shards, _ = open_shards(tmp_path / "work" / "shards", None)
    whole, _ = open_shards(parts / "shards", None)
    assert found == ["data.text=[]", f"data.shards={tmp_path / 'work' / 'shards'}"]
    assert sum(shards.train.documents) == sum(whole.train.documents)
    assert corpus(None, 2, tmp_path / "work") == found
    assert corpus(None, 2, tmp_path / "other") == []


def test_what_goes_home_tells_of_the_runs_and_holds_no_weights(tmp_path):
    from session import collect

    runs = tmp_path / "runs"
    step = "one/step-2"
    told = ["one.txt", "one/log.jsonl", f"{step}/training.json"]
    kept = [f"{step}/model.safetensors", f"{step}/resume/a.json", f"{step}/tokenizer.json", "shards/index.json"]
    for name in (*told, *kept):
        (runs / name).parent.mkdir(parents=True, exist_ok=True)
        (runs / name).write_text(name)
    collect(runs, tmp_path / "home")
    with tarfile.open(tmp_path / "home" / "runs-logs.tar.xz") as archive:
        assert sorted(archive.getnames()) == told


def test_a_branch_has_as_many_steps_as_fit_in_its_seconds(tmp_path):
    from default_model import steps_in

    slow = {"step": 1, "tokens": 640, "tokens_per_s": 10.0}
    lines = [slow, *({"step": k, "tokens": 640 * k, "tokens_per_s": 6400.0} for k in range(2, 500))]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert steps_in(30, tmp_path / "log.jsonl") == 300
    assert steps_in(0.01, tmp_path / "log.jsonl") == 2


def test_a_trunk_that_fails_leaves_its_newest_checkpoint_or_ends_the_call(tmp_path, monkeypatch):
    import default_model

    monkeypatch.setattr(default_model, "unmul", lambda *_: {})
    trainer = default_model.Trainer(Path("none.toml"), [], tmp_path)
    with pytest.raises(SystemExit, match="no checkpoint"):
        default_model.grow_trunk(trainer, 1)
    for step in ("step-0000020", "step-0000100", ".step-0000200.resume"):
        (tmp_path / "trunk" / step).mkdir(parents=True)
    assert default_model.grow_trunk(trainer, 1).name == "step-0000100"


@pytest.mark.slow
def test_every_call_packs_a_cooled_branch_and_the_next_goes_on_with_the_trunk(parts, tmp_path, monkeypatch):
    import default_model

    monkeypatch.setattr(default_model, "PROMPTS", ("a small",))
    monkeypatch.setattr(default_model, "WORTH", 0.0)
    monkeypatch.setattr(default_model, "steps_in", lambda *_: 20)  # as many as any machine takes in its second
    (tmp_path / "tiny.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    words = ["--work", "work", "--collect", "home", "--carried", str(parts / "0"), "--text", str(parts / "text.txt")]
    times = ["--seconds", "4", "--reserve", "1", "--cooldown", "1"]
    monkeypatch.setattr(sys, "argv", ["default_model.py", "tiny.toml", *words, *times])
    trunk = [0]
    for call in range(2):
        default_model.main()
        (newest,) = Path("work/trunk").glob("step-*")
        trunk.append(int(newest.name.partition("-")[2]))
        found = json.loads(Path("work/default.json").read_text())
        assert found["eval"]["bits_per_byte"] > 0
        assert found["samples"]["a small"]
        log = Path(f"work/branch-{trunk[-1]}/log.jsonl").read_text().splitlines()
        rates = [step["rate"] for step in map(json.loads, log) if "rate" in step]
        assert len(rates) == found["branch"]["steps"]
        assert rates[-1] < 0.4 * max(rates)
        with tarfile.open("home/packed.tar") as archive:
            archive.extractall(f"packed{call}", filter="data")
        assert PackedCheckpoint.open(Path(f"packed{call}")).config.hidden_size == 8
    assert trunk == sorted(set(trunk))

"""Training end to end from every kind of text: the same documents give the same losses."""

import gzip
import json
import signal
import subprocess
import sys
import time

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from unmul.data.text import END
from unmul.train import load_recipe, run

UNMUL = [sys.executable, "-c", "import sys; from unmul.cli.app import main; sys.exit(main())"]
TWO_STEPS = ["train.steps=2", "data.field=story"]


@pytest.fixture(scope="module")
def documents(text):
    return [part.strip() for part in text.split(END)]


def as_text(folder, documents):
    (folder / "tales.txt").write_text(f"\n{END}\n".join(documents))  # every document but the last has a line end
    return f"data.text={folder / 'tales.txt'}"


def as_jsonl(folder, documents):
    lines = [json.dumps({"id": k, "story": text}) for k, text in enumerate(documents)]
    (folder / "tales.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return f"data.text={folder / 'tales.jsonl.gz'}"


def as_parquet(folder, documents):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"id": range(len(documents)), "story": documents})
    parquet.write_table(table.slice(0, 90), folder / "tales-0.parquet", row_group_size=40)
    parquet.write_table(table.slice(90), folder / "tales-1.parquet")
    return f"data.text={folder / 'tales-*.parquet'}"


def as_dataset(folder, documents):
    pytest.importorskip("datasets", reason="needs the datasets extra")
    (folder / "tales").mkdir()
    lines = [json.dumps({"id": k, "story": text}) for k, text in enumerate(documents)]
    (folder / "tales" / "train.jsonl").write_text("\n".join(lines))
    return f"data.dataset={folder / 'tales'}"


@pytest.mark.parametrize("write", [as_jsonl, as_parquet, as_dataset], ids=lambda write: write.__name__)
def test_two_steps_from_any_format_have_the_same_losses(recipe_file, tmp_path, documents, write):
    with_ends = [*(text + "\n" for text in documents[:-1]), documents[-1]]  # as text files have them
    expected = run(
        load_recipe(recipe_file, [*TWO_STEPS, as_text(tmp_path, documents)]), out=tmp_path / "text", lines=True
    )
    found = run(load_recipe(recipe_file, [*TWO_STEPS, write(tmp_path, with_ends)]), out=tmp_path / "other", lines=True)
    assert found.steps == 2
    assert (found.final_loss, found.bits_per_byte) == (expected.final_loss, expected.bits_per_byte)
    for name in ("train-00000.bin", "validation-00000.bin", "validation-00000.sizes"):
        assert (tmp_path / "other/shards" / name).read_bytes() == (tmp_path / "text/shards" / name).read_bytes()


def test_two_steps_with_a_foreign_tokenizer(recipe_file, tmp_path, text):
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(vocab_size=290, special_tokens=["<unk>", "<s>", "</s>"]))
    tokenizer.save(str(tmp_path / "foreign.json"))
    overrides = ["train.steps=2", f"data.tokenizer={tmp_path / 'foreign.json'}"]
    result = run(load_recipe(recipe_file, overrides), out=tmp_path / "out", lines=True)
    config = json.loads((result.checkpoint / "config.json").read_text())
    assert (config["vocab_size"], config["bos_token_id"], config["eos_token_id"]) == (290, 2, 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_while_shards_are_made_leaves_nothing_behind(recipe_file, tmp_path, text, number):
    (tmp_path / "text.txt").write_text(f"\n{END}\n".join([text] * 400))
    process = subprocess.Popen([*UNMUL, "train", str(recipe_file), "--out", str(tmp_path / "out")])
    while process.poll() is None and not list(tmp_path.glob("out/.shards.tmp-*")):
        time.sleep(0.005)
    process.send_signal(number)
    assert process.wait() == 128 + number
    assert list((tmp_path / "out").iterdir()) == []

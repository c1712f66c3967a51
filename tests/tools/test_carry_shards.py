"""Shards carried to another machine: the same documents, whichever parts arrive, and nothing damaged."""

import subprocess
import sys
from pathlib import Path

import pytest

from unmul.data import Files, Source, open_shards
from unmul.errors import DataError

TOOL = Path(__file__).parents[2] / "tools" / "carry_shards.py"


@pytest.fixture(scope="module")
def carried(tmp_path_factory):
    """A folder with shards of 40 documents, and those packed in two parts with half of the validation text."""
    folder = tmp_path_factory.mktemp("carried")
    for name, count in (("train", 40), ("validation", 12)):
        documents = (f"{name} document {k}: " + "words and words " * (k + 1) for k in range(count))
        (folder / f"{name}.txt").write_text("\n<|endoftext|>\n".join(documents))
    text, validation = (Files(paths=(folder / f"{name}.txt",)) for name in ("train", "validation"))
    open_shards(folder / "shards", Source(text=text, validation=validation, vocab_size=300), lines=True)
    run("pack", folder / "shards", folder / "packed", "--validation", "0.5")
    return folder


def run(*words):
    done = subprocess.run([sys.executable, TOOL, *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def texts(folder, side):
    shards, made = open_shards(folder, None)
    assert not made
    return {shards.tokenizer.decode(ids): size for ids, size in shards.documents(getattr(shards, side))}


def test_all_parts_hold_every_training_document_once_and_some_of_the_validation_text(carried, tmp_path):
    code, said = run("unpack", carried / "packed", tmp_path / "shards")
    assert code == 0, said
    assert texts(tmp_path / "shards", "train") == texts(carried / "shards", "train")
    kept, whole = (texts(folder / "shards", "validation") for folder in (tmp_path, carried))
    assert 0 < len(kept) < len(whole)
    assert kept.items() <= whole.items()


def test_packing_again_gives_the_same_bytes(carried, tmp_path):
    run("pack", carried / "shards", tmp_path / "packed", "--validation", "0.5")
    for path in (carried / "packed").iterdir():
        assert (tmp_path / "packed" / path.name).read_bytes() == path.read_bytes(), path.name


def test_one_part_is_a_smaller_text_with_another_key(carried, tmp_path):
    (tmp_path / "packed").mkdir()
    for path in (carried / "packed").iterdir():
        if path.name != "train-00001.xz":
            (tmp_path / "packed" / path.name).write_bytes(path.read_bytes())
    run("unpack", tmp_path / "packed", tmp_path / "half")
    run("unpack", carried / "packed", tmp_path / "all")
    assert 0 < len(texts(tmp_path / "half", "train")) < len(texts(tmp_path / "all", "train"))
    keys = {open_shards(folder, None)[0].key for folder in (tmp_path / "half", tmp_path / "all", carried / "shards")}
    assert len(keys) == 3


def test_a_damaged_file_is_refused_and_leaves_nothing(carried, tmp_path):
    (tmp_path / "packed").mkdir()
    for path in (carried / "packed").iterdir():
        (tmp_path / "packed" / path.name).write_bytes(
            path.read_bytes()[:-9] if path.suffix == ".xz" else path.read_bytes()
        )
    code, said = run("unpack", tmp_path / "packed", tmp_path / "shards")
    assert code == 1
    assert "train-00000.xz is not what was packed: copy it again" in said
    assert not (tmp_path / "shards").exists()


def test_a_folder_without_shards_is_refused_where_no_text_is_given(tmp_path):
    with pytest.raises(DataError, match="has no token shards"):
        open_shards(tmp_path, None)

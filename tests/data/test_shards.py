"""data.shards: made once, remade when text or vocabulary change, validation apart by document."""

import json
from dataclasses import replace

import numpy as np
import pytest

from unmul.data import Source, open_shards, read_documents, shards
from unmul.data.text import END
from unmul.errors import DataError

DOCUMENTS = [f"Story {k}: the {'cat' if k % 2 else 'dog'} ran home {'again ' * (k % 7)}.\n" for k in range(60)]


@pytest.fixture
def source(tmp_path):
    (tmp_path / "train.txt").write_text(f"{END}\n".join(DOCUMENTS), "utf-8")
    (tmp_path / "validation.txt").write_text(f"Held out.\n{END}\nTwice held out.\n", "utf-8")
    return Source(text=(tmp_path / "train.txt",), validation=(tmp_path / "validation.txt",), vocab_size=280)


def decoded(opened, split):
    return [opened.tokenizer.decode(ids) for ids, _ in opened.documents(split)]


@pytest.mark.parametrize("limit", [1, 50, 2**27])
def test_documents_come_back_whole_in_order_however_files_are_cut(source, tmp_path, monkeypatch, limit):
    monkeypatch.setattr(shards, "SHARD_TOKENS", limit)
    opened, made = open_shards(tmp_path / "s", source)
    assert made
    assert len(opened.train.files) == 60 if limit == 1 else len(opened.train.files) < 60
    assert decoded(opened, opened.train) == DOCUMENTS
    assert decoded(opened, opened.validation) == ["Held out.\n", "Twice held out.\n"]
    assert [size for _, size in opened.documents(opened.validation)] == [10, 16]


def test_files_begin_end_and_separate_documents_with_the_end_token(source, tmp_path):
    opened, _ = open_shards(tmp_path / "s", source)
    (tokens,) = opened.read(opened.train)
    assert tokens[0] == tokens[-1] == 0
    assert np.count_nonzero(tokens == 0) == len(DOCUMENTS) + 1
    assert tokens.dtype == np.uint16


def test_shards_are_made_once(source, tmp_path):
    open_shards(tmp_path / "s", source)
    before = (tmp_path / "s" / "train-00000.bin").stat().st_mtime_ns
    assert not open_shards(tmp_path / "s", source)[1]
    assert (tmp_path / "s" / "train-00000.bin").stat().st_mtime_ns == before


def test_a_changed_text_is_noticed_and_remade(source, tmp_path):
    old, _ = open_shards(tmp_path / "s", source)
    source.text[0].write_text("All new, the cat and the dog ran home again and again.\n" * 9, "utf-8")
    new, made = open_shards(tmp_path / "s", replace(source, vocab_size=262))
    assert made
    assert new.key != old.key
    assert decoded(new, new.train)[0].startswith("All new")


@pytest.mark.parametrize("change", [{"vocab_size": 281}, {"validation": 0.1}])
def test_another_vocabulary_or_split_is_noticed(source, tmp_path, change):
    open_shards(tmp_path / "s", source)
    assert open_shards(tmp_path / "s", replace(source, **change))[1]


def test_an_existing_tokenizer_is_used_instead_of_learning_one(source, tmp_path):
    first, _ = open_shards(tmp_path / "s", source)
    again = replace(source, tokenizer=tmp_path / "s" / "tokenizer.json", vocab_size=999)
    second, made = open_shards(tmp_path / "t", again)
    assert made
    assert second.tokenizer.to_str() == first.tokenizer.to_str()


def test_a_share_keeps_whole_documents_apart_and_loses_none(source, tmp_path):
    opened, _ = open_shards(tmp_path / "s", replace(source, validation=0.2))
    train, validation = decoded(opened, opened.train), decoded(opened, opened.validation)
    assert validation
    assert not set(train) & set(validation)
    assert sorted(train + validation) == sorted(read_documents(source.text))


def test_truncated_shards_are_refused(source, tmp_path):
    opened, _ = open_shards(tmp_path / "s", source)
    file = tmp_path / "s" / "train-00000.bin"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(DataError, match="cut short"):
        opened.read(opened.train)


def test_an_index_of_other_content_is_refused(source, tmp_path):
    open_shards(tmp_path / "s", source)
    index = json.loads((tmp_path / "s" / "index.json").read_text())
    del index["train"]["tokens"]
    (tmp_path / "s" / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="damaged"):
        open_shards(tmp_path / "s", source)


def test_a_folder_of_the_user_is_never_replaced(source, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="holds something else"):
        open_shards(tmp_path / "mine", source)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_text_without_documents_is_refused_and_leaves_nothing(source, tmp_path):
    source.text[0].write_text(f"\n{END}\n  \n", "utf-8")
    with pytest.raises(DataError, match="no training text"):
        open_shards(tmp_path / "s", source)
    assert not (tmp_path / "s").exists()

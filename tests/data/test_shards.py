"""data.shards: made once, remade when text or vocabulary change, validation apart by document."""

import errno
import json
import os
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from unmul.data import Files, Source, open_shards, read_documents, tokenizer, writer
from unmul.data.text import END
from unmul.data.writer import SplitWriter
from unmul.errors import CheckpointError, DataError

DOCUMENTS = [f"Story {k}: the {'cat' if k % 2 else 'dog'} ran home {'again ' * (k % 7)}.\n" for k in range(60)]


@pytest.fixture
def source(tmp_path):
    (tmp_path / "train.txt").write_text(f"{END}\n".join(DOCUMENTS), "utf-8")
    (tmp_path / "validation.txt").write_text(f"Held out.\n{END}\nTwice held out.\n", "utf-8")
    text, validation = (Files(paths=(tmp_path / f"{side}.txt",)) for side in ("train", "validation"))
    return Source(text=text, validation=validation, vocab_size=280)


def decoded(opened, split):
    return [opened.tokenizer.decode(ids) for ids, _ in opened.documents(split)]


@pytest.mark.parametrize("limit", [1, 50, 2**27])
def test_documents_come_back_whole_in_order_however_files_are_cut(source, tmp_path, monkeypatch, limit):
    monkeypatch.setattr(writer, "SHARD_TOKENS", limit)
    monkeypatch.setattr(writer, "PIECE", 70)
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
    source.text.paths[0].write_text("All new, the cat and the dog ran home again and again.\n" * 9, "utf-8")
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
    assert sorted(train + validation) == sorted(read_documents(source.text.paths))


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
    (tmp_path / "mine" / "index.json").write_text('{"format": 1, "key": "id"}')
    with pytest.raises(DataError, match="holds something else"):
        open_shards(tmp_path / "mine", source)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_shards_of_an_older_format_are_made_again(source, tmp_path):
    open_shards(tmp_path / "s", source)
    index = json.loads((tmp_path / "s" / "index.json").read_text())
    (tmp_path / "s" / "index.json").write_text(json.dumps({"format": 1, "key": index["key"]}))
    opened, made = open_shards(tmp_path / "s", source)
    assert made
    assert decoded(opened, opened.train) == DOCUMENTS


@pytest.mark.parametrize(("size", "kind"), [(65536, "<u2"), (65537, "<u4"), (131072, "<u4")])
def test_ids_take_32_bits_only_where_the_vocabulary_needs_them(source, tmp_path, size, kind):
    words = {"a": 1, "b": size - 1, "</s>": 0}
    Tokenizer(models.BPE(words, [])).save(str(tmp_path / "large.json"))
    source.text.paths[0].write_text("abba", "utf-8")
    opened, _ = open_shards(tmp_path / "s", replace(source, tokenizer=tmp_path / "large.json"))
    (tokens,) = opened.read(opened.train)
    assert (opened.vocab_size, opened.ids, tokens.dtype) == (size, np.dtype(kind), np.dtype(kind))
    assert tokens.tolist() == [0, 1, size - 1, size - 1, 1, 0]
    again, made = open_shards(tmp_path / "s", replace(source, tokenizer=tmp_path / "large.json"))
    assert not made
    assert again.ids == opened.ids


def test_another_tokenizers_end_token_separates_documents(source, tmp_path):
    learned, _ = open_shards(tmp_path / "s", source)
    learned.tokenizer.add_special_tokens(["<s>"])
    learned.tokenizer.save(str(tmp_path / "other.json"))
    opened, _ = open_shards(tmp_path / "t", replace(source, tokenizer=tmp_path / "other.json", end_token="<s>"))
    assert opened.end == opened.tokenizer.token_to_id("<s>") == 280
    assert opened.vocab_size == 281
    assert decoded(opened, opened.train) == DOCUMENTS
    config = json.loads((tmp_path / "t" / "tokenizer_config.json").read_text())
    assert config["eos_token"] == config["bos_token"] == "<s>"


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError("line 7 is damaged", "mend it")])
def test_stopping_while_shards_are_made_leaves_nothing_behind(source, tmp_path, monkeypatch, error):
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(writer, "PIECE", 70)
    true_documents = Source.documents

    def stops(self):
        yield from islice(true_documents(self), 50)
        raise error

    monkeypatch.setattr(tokenizer, "GROUP", 100)
    open_shards(tmp_path / "first", source)
    monkeypatch.setattr(Source, "documents", stops)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else DataError):
        open_shards(tmp_path / "work" / "s", replace(source, tokenizer=tmp_path / "first" / "tokenizer.json"))
    assert list((tmp_path / "work").iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(source, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "work").mkdir()
    monkeypatch.setattr(SplitWriter, "_append", full)
    with pytest.raises(CheckpointError, match=r"work/s cannot be written \(No space left on device\)"):
        open_shards(tmp_path / "work" / "s", source)
    assert list((tmp_path / "work").iterdir()) == []


def test_a_share_needs_no_second_reading_of_the_text(source, tmp_path, monkeypatch):
    readings = []
    true_texts = Files.texts
    monkeypatch.setattr(Files, "texts", lambda self: readings.append(self) or true_texts(self))
    open_shards(tmp_path / "s", replace(source, validation=0.2))
    assert len(readings) == 3  # the first document, the vocabulary, the shards


def test_a_share_that_leaves_a_side_empty_is_refused(source, tmp_path):
    with pytest.raises(DataError, match=r"data\.validation 1e-09 leaves no validation text: choose another share"):
        open_shards(tmp_path / "s", replace(source, validation=1e-9))
    assert not (tmp_path / "s").exists()


def test_making_says_what_was_made_and_left_out(source, tmp_path, capsys):
    with source.text.paths[0].open("a") as handle:
        handle.write(f"\n{END}\n\n{END}\n \n")
    open_shards(tmp_path / "s", source, lines=True)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "learning a vocabulary of 280 entries"
    assert said[-1].startswith("shards made: 62 documents, 2 empty ones left out, ")
    open_shards(tmp_path / "s", source, lines=True)
    assert capsys.readouterr().err == ""


def test_text_without_documents_is_refused_and_leaves_nothing(source, tmp_path):
    source.text.paths[0].write_text(f"\n{END}\n  \n", "utf-8")
    with pytest.raises(DataError, match=r"data\.text: .*train\.txt has no text"):
        open_shards(tmp_path / "s", source)
    assert not (tmp_path / "s").exists()

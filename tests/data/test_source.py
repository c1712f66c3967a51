"""data.source: readers by suffix, sides by a document's own hash, a key of all that decides the shards."""

import gzip
import json
from dataclasses import replace

import pytest

from unmul.data import Dataset, Files, Source, read_documents
from unmul.data.source import TRAIN, VALIDATION, kind_of
from unmul.data.text import END

TEXTS = [f"Story {k}." for k in range(200)]


@pytest.fixture
def source(tmp_path):
    (tmp_path / "a.txt").write_text(f"\n{END}\n".join(TEXTS), "utf-8")
    return Source(text=Files(paths=(tmp_path / "a.txt",)), validation=0.2, vocab_size=280)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", "text"),
        ("a", "text"),
        ("a.md.xz", "text"),
        ("a.jsonl", "JSONL"),
        ("a.jsonl.zst", "JSONL"),
        ("c4-train.00000.json.gz", "JSONL"),
        ("part-0.parquet", "Parquet"),
    ],
)
def test_the_suffix_says_how_a_file_is_read(tmp_path, name, kind):
    assert kind_of(tmp_path / name) == kind


def test_files_of_all_kinds_are_read_in_order_without_empty_documents(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    paths = [tmp_path / name for name in ("a.txt", "b.jsonl.gz", "c.parquet")]
    paths[0].write_text(f"One.\n{END}\n \n{END}\nTwo.", "utf-8")
    lines = [json.dumps({"body": text}) for text in ("Three.", "", "Four.")]
    paths[1].write_bytes(gzip.compress("\n".join(lines).encode()))
    parquet.write_table(pyarrow.table({"body": ["Five.", None]}), paths[2])
    assert list(read_documents(paths, "body")) == ["One.\n", "Two.", "Three.", "Four.", "Five."]


def test_a_share_puts_each_document_on_one_side_whatever_the_order(source, tmp_path):
    sides = {text.strip(): side for side, text in source.documents()}
    assert len(sides) == len(TEXTS)
    assert 20 < sum(side == VALIDATION for side in sides.values()) < 60
    (tmp_path / "b.txt").write_text(f"\n{END}\n".join(reversed(TEXTS)), "utf-8")
    other = replace(source, text=Files(paths=(tmp_path / "b.txt",)))
    ends = {TEXTS[0], TEXTS[-1]}  # one of them has no line end, so is another text
    assert {text.strip(): side for side, text in other.documents() if text.strip() not in ends} == {
        text: side for text, side in sides.items() if text not in ends
    }


def test_validation_of_its_own_is_read_after_the_text(source, tmp_path):
    (tmp_path / "v.jsonl").write_text('{"text": "Held out."}\n')
    documents = list(replace(source, validation=Files(paths=(tmp_path / "v.jsonl",))).documents())
    assert [side for side, _ in documents] == [TRAIN] * 200 + [VALIDATION]
    assert documents[-1][1] == "Held out."


def test_the_key_follows_everything_that_decides_the_shards(source, tmp_path):
    (tmp_path / "a.jsonl").write_bytes((tmp_path / "a.txt").read_bytes())
    (tmp_path / "t.json").write_text("{}")
    tokenizer = tmp_path / "t.json"
    changes = (
        {},
        {"text": Files(paths=(tmp_path / "a.jsonl",))},
        {"text": Files(paths=(tmp_path / "a.txt",), field="body")},
        {"text": Dataset(name="someone/tales")},
        {"validation": 0.1},
        {"validation": source.text},
        {"validation": Dataset(name="someone/tales", split="test")},
        {"vocab_size": 281},
        {"tokenizer": tokenizer},
        {"tokenizer": tokenizer, "end_token": "</s>"},
    )
    assert len({replace(source, **change).key() for change in changes}) == len(changes)
    assert replace(source, tokenizer=tokenizer, vocab_size=281).key() == replace(source, tokenizer=tokenizer).key()

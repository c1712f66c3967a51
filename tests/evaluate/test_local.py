"""Rows of local benchmark files as lm-eval's tasks expect them."""

import json
import lzma

import pytest

from unmul.errors import DataError
from unmul.evaluate.local import FORMATS, find_file, read_rows

ROOF = {
    "question": "Roof shingle removal: A man is sitting on a roof. he",
    "choices": ["a", "b", "c", "d"],
    "answer": 3,
}


def write(folder, name, *rows):
    path = folder / f"{FORMATS[name].stem}.test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("question", "query"),
    [
        (ROOF["question"], "Roof shingle removal: A man is sitting on a roof. He"),
        ("Kite: He runs! He jumps? the old man in Doha", "Kite: He runs! He jumps? The old man in doha"),
        ("Kite: the man", "Kite: The man"),
        ('Kite: He says "go." she', 'Kite: He says "go." She'),
        ("Home: How to rest. Lie down.", "Home: How to rest. Lie down."),
        ('Home: How to rest. Say "stop!"', 'Home: How to rest. Say "stop!"'),
    ],
    ids=["open", "more", "only", "quote", "closed", "closed-quote"],
)
def test_hellaswag_contexts_get_the_capital_that_lm_eval_gives_an_open_end(tmp_path, question, query):
    (row,) = read_rows(write(tmp_path, "hellaswag", ROOF | {"question": question}), "hellaswag")
    assert row["query"] == query


def test_hellaswag_rows_equal_what_lm_eval_makes_of_the_published_ones(tmp_path):
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    from datasets import Dataset
    from lm_eval.tasks.hellaswag.utils import process_docs

    published = {
        "activity_label": "Roof shingle removal", "ctx_a": "A man is sitting on a roof.", "ctx_b": "he",
        "endings": ["a", "b", "c", "d"], "label": "3",
    }  # fmt: skip
    (expected,) = process_docs(Dataset.from_list([published]))
    (row,) = read_rows(write(tmp_path, "hellaswag", ROOF), "hellaswag")
    assert row == {key: expected[key] for key in row}


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.xz"])
def test_a_file_is_found_by_its_stem_and_read_with_any_compression(tmp_path, suffix):
    row = json.dumps({"text": "Once upon a time"}) + "\n"
    path = tmp_path / f"lambada_openai.test.{suffix}"
    path.write_bytes(lzma.compress(row.encode()) if suffix.endswith("xz") else row.encode())
    (tmp_path / "lambada_openai.md").write_text("about it")
    assert find_file(tmp_path, "lambada_openai") == path
    assert read_rows(path, "lambada_openai") == [{"text": "Once upon a time"}]


def test_a_missing_and_a_second_file_are_refused(tmp_path):
    with pytest.raises(DataError, match="has no piqa"):
        find_file(tmp_path, "piqa")
    for split in ("test", "validation"):
        (tmp_path / f"piqa.{split}.jsonl").touch()
    with pytest.raises(DataError, match="has 2 files piqa"):
        find_file(tmp_path, "piqa")


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("arc_easy", {"question": "Why?", "choices": ["a"]}, "KeyError: 'answer'"),
        ("arc_easy", {"question": "Why?", "choices": ["a"], "answer": 1}, "IndexError"),
        ("piqa", {"question": "How?", "choices": ["a"], "answer": 0}, "ValueError"),
        ("lambada_openai", "no object", "TypeError"),
    ],
    ids=["field", "answer", "choices", "object"],
)
def test_a_wrong_row_is_named_with_its_line(tmp_path, name, row, reason):
    with pytest.raises(DataError, match=f"line 1 is no item of {name} .{reason}"):
        read_rows(write(tmp_path, name, row), name)


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="is empty"):
        read_rows(write(tmp_path, "blimp"), "blimp")


@pytest.mark.parametrize("name", FORMATS)
def test_every_item_of_the_reference_files_is_read(shared, name):
    path = find_file(shared / "data" / "benchmarks", name)
    manifest = json.loads((shared / "data" / "MANIFEST.json").read_text())
    assert len(read_rows(path, name)) == manifest["files"][f"benchmarks/{path.name}"]["rows"]

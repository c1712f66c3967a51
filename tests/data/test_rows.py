"""data.rows: a row of JSONL or Parquet is a document; what is wrong is named by file, line or row, and field."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmul.data import rows
from unmul.data.rows import read_jsonl, read_parquet
from unmul.errors import DataError, MissingExtraError

TEXTS = ["One.\nStill one.", "", "Two: é, \U0001f600"]


def write_parquet(path, columns, **options):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), path, **options)
    return path


@pytest.mark.parametrize("ascii_only", [True, False])
def test_every_line_of_jsonl_is_a_document(tmp_path, ascii_only):
    lines = [json.dumps({"id": 1, "text": text}, ensure_ascii=ascii_only) for text in TEXTS]
    (tmp_path / "a.jsonl").write_text("\n\n".join(lines) + "\n", "utf-8")
    assert list(read_jsonl(tmp_path / "a.jsonl", "text")) == TEXTS


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_any_text_survives_jsonl(tmp_path_factory, texts):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text("".join(json.dumps({"body": text}) + "\n" for text in texts), "utf-8")
    assert list(read_jsonl(path, "body")) == texts


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"text": "cut', r"a\.jsonl line 3 is not JSON \(Unterminated string"),
        ('["text"]', r"a\.jsonl line 3 is not a JSON object"),
        ("[" * 100_000, r"a\.jsonl line 3 is not JSON \(maximum recursion"),
        ('{"id": 1, "body": "x"}', r"a\.jsonl line 3 has no field 'text' \(it has id, body\): set data\.field"),
        ("{}", r"a\.jsonl line 3 has no field 'text' \(it has none\)"),
        ('{"text": ["x"]}', r"a\.jsonl line 3: field 'text' is list, not text: set data\.field"),
        (r'{"text": "half \ud83d"}', r"a\.jsonl line 3: field 'text' has half a surrogate pair"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_with_a_remedy(tmp_path, line, problem):
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n\n' + line + "\n", "utf-8")
    read = read_jsonl(tmp_path / "a.jsonl", "text")
    assert next(read) == "fine"
    with pytest.raises(DataError, match=problem):
        next(read)


def test_a_missing_text_is_an_empty_document(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": null}\n', "utf-8")
    assert list(read_jsonl(tmp_path / "a.jsonl", "text")) == [""]
    path = write_parquet(tmp_path / "a.parquet", {"text": ["One.", None]})
    assert list(read_parquet(path, "text")) == ["One.", ""]


@pytest.mark.parametrize("group", [1, 2, 1000])
def test_every_row_of_parquet_is_a_document_over_all_row_groups(tmp_path, monkeypatch, group):
    monkeypatch.setattr(rows, "ROWS", 2)
    texts = [*TEXTS, *(f"Story {k}" for k in range(7))]
    columns = {"id": list(range(10)), "text": texts}
    path = write_parquet(tmp_path / "a.parquet", columns, row_group_size=group)
    assert list(read_parquet(path, "text")) == texts


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip"])
def test_compressed_and_dictionary_columns_are_text_too(tmp_path, compression):
    pyarrow = pytest.importorskip("pyarrow")
    column = pyarrow.array(["a", "b", "a"]).dictionary_encode()
    path = write_parquet(tmp_path / "a.parquet", {"text": column}, compression=compression)
    assert list(read_parquet(path, "text")) == ["a", "b", "a"]


def test_a_parquet_file_of_no_rows_has_no_documents(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    path = write_parquet(tmp_path / "a.parquet", {"text": pyarrow.array([], pyarrow.string())})
    assert list(read_parquet(path, "text")) == []


def test_parquet_columns_that_cannot_be_used_are_named(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", {"id": [1, 2], "body": ["a", "b"]})
    with pytest.raises(DataError, match=r"a\.parquet has no field 'text' \(it has id, body\): set data\.field"):
        list(read_parquet(path, "text"))
    with pytest.raises(DataError, match=r"a\.parquet row 1: field 'id' is int, not text"):
        list(read_parquet(path, "id"))


def test_what_is_no_whole_parquet_file_is_refused(tmp_path):
    whole = write_parquet(tmp_path / "a.parquet", {"text": [f"Story {k}" for k in range(999)]}).read_bytes()
    for content in (b"", b"text", whole[:-9], whole[: len(whole) // 2]):
        (tmp_path / "a.parquet").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.parquet is damaged or no Parquet file"):
            list(read_parquet(tmp_path / "a.parquet", "text"))


def test_parquet_that_is_not_utf8_is_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    broken = pyarrow.StringArray.from_buffers(1, pyarrow.py_buffer(b"\0\0\0\0\1\0\0\0"), pyarrow.py_buffer(b"\xff"))
    path = write_parquet(tmp_path / "a.parquet", {"text": broken})
    with pytest.raises(DataError, match=r"a\.parquet: field 'text' is not UTF-8"):
        list(read_parquet(path, "text"))


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        MissingExtraError, match=r"pyarrow \(for Parquet files\) is not installed: pip install 'unmul\[train\]'"
    ):
        list(read_parquet(tmp_path / "a.parquet", "text"))

"""data.text: files to documents, whole and refused when damaged."""

import gzip
import lzma

import pytest

from unmul.data.text import END, fingerprint, read_documents
from unmul.errors import DataError

TWO = f"One.\r\nStill one.\n{END}\nTwo: é.\n"


def test_documents_keep_every_byte_but_the_separating_lines(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(TWO.encode())
    assert list(read_documents([file])) == ["One.\r\nStill one.\n", "Two: é.\n"]


@pytest.mark.parametrize(("suffix", "opener"), [(".xz", lzma.open), (".gz", gzip.open)])
def test_compressed_files_give_the_same_documents(tmp_path, suffix, opener):
    file = tmp_path / f"a.txt{suffix}"
    with opener(file, "wb") as handle:
        handle.write(TWO.encode())
    assert list(read_documents([file])) == ["One.\r\nStill one.\n", "Two: é.\n"]


def test_a_file_ends_its_last_document_and_empty_documents_are_left_out(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text(f"{END}\n\n{END}\nA", "utf-8")
    second.write_text(f"B\n{END}\r\n{END}", "utf-8")
    assert list(read_documents([first, second])) == ["A", "B\n"]


def test_the_end_token_within_a_line_is_text(tmp_path):
    (tmp_path / "a").write_text(f"say {END} now\n", "utf-8")
    assert list(read_documents([tmp_path / "a"])) == [f"say {END} now\n"]


def test_text_that_is_not_utf8_is_named_with_its_byte_offset(tmp_path):
    (tmp_path / "a").write_bytes(b"fine\nbad \xff byte\n")
    with pytest.raises(DataError, match="a is not UTF-8 at byte 9"):
        list(read_documents([tmp_path / "a"]))


@pytest.mark.parametrize("name", ["a.xz", "a.gz"])
def test_damaged_and_truncated_archives_are_refused_by_name(tmp_path, name):
    whole = lzma.compress(TWO.encode()) if name == "a.xz" else gzip.compress(TWO.encode())
    for content in (b"not an archive", whole[:-6]):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name} is damaged"):
            list(read_documents([tmp_path / name]))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(DataError, match="does not exist"):
            list(read_documents([path]))


def test_the_fingerprint_follows_content_and_order_not_names(tmp_path):
    a, b, c = (tmp_path / name for name in "abc")
    a.write_text("one")
    b.write_text("two")
    c.write_text("one")
    assert fingerprint([a]) == fingerprint([c])
    assert len({fingerprint([a, b]), fingerprint([b, a]), fingerprint([a]), fingerprint([])}) == 4

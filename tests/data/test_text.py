"""data.text: plain text files to documents, whole."""

import pytest

from unmul.data import text
from unmul.data.text import END, read_text
from unmul.errors import DataError


def documents(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content.encode())
    return list(read_text(tmp_path / "a.txt"))


def test_documents_keep_every_byte_but_the_separating_lines(tmp_path):
    assert documents(tmp_path, f"One.\r\nStill one.\n{END}\nTwo: é.\n") == ["One.\r\nStill one.\n", "Two: é.\n"]


def test_a_file_ends_its_last_document(tmp_path):
    assert documents(tmp_path, f"A\n{END}\nB") == ["A\n", "B"]
    assert documents(tmp_path, f"A\n{END}\r\nB\n{END}\n") == ["A\n", "B\n"]
    assert documents(tmp_path, "") == []


def test_empty_documents_are_given_for_the_reader_to_count(tmp_path):
    assert documents(tmp_path, f"{END}\n \n{END}\nA") == ["", " \n", "A"]


def test_the_end_token_within_a_line_is_text(tmp_path):
    assert documents(tmp_path, f"say {END} now\n") == [f"say {END} now\n"]


def test_a_document_that_memory_could_not_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "LONGEST", 10)
    assert documents(tmp_path, f"12345\n{END}\n1234567\n") == ["12345\n", "1234567\n"]
    with pytest.raises(DataError, match=r"a\.txt has a document of more than 10 characters: separate it by <\|endof"):
        documents(tmp_path, "12345\n12345\n")

"""data.progress: counts, and lines now and then."""

import sys

import pytest

from unmul.data import progress
from unmul.data.progress import Progress


def test_documents_without_text_are_left_out_and_counted(capsys):
    with Progress(lines=True) as counts:
        kept = list(counts.kept([("train", "One."), ("train", " \n"), ("validation", ""), ("train", "Two.")]))
        for _ in kept:
            counts.add(5)
    assert kept == [("train", "One."), ("train", "Two.")]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("shards made: 2 documents, 2 empty ones left out, 10 tokens in ")


def test_plain_lines_come_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    with Progress(lines=True) as counts:
        counts.say("learning")
        counts.add(1000)
        counts.add(500)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "learning"
    assert [line.partition(" in ")[0] for line in said[1:]] == [
        "making shards: 1 documents, 1,000 tokens",
        "making shards: 2 documents, 1,500 tokens",
        "shards made: 2 documents, 1,500 tokens",
    ]


def test_what_goes_wrong_is_not_called_made(capsys):
    with pytest.raises(KeyboardInterrupt), Progress(lines=True):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""


def test_a_terminal_has_one_line_that_renews_itself(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress() as counts:
        counts.say("learning")
        counts.add(5)
    assert "shards made: 1 documents, 5 tokens" in capsys.readouterr().err

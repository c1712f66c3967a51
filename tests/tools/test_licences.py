"""The card's table of sources, and that nothing unlisted can hide behind it."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "licences.py"
RECIPE = '[data]\ntext = ["data/a.train.txt", "data/b.train.txt"]\nvalidation = 0.1\n[train]\nsteps = 1\n'


@pytest.fixture
def corpus(tmp_path):
    """A recipe with two training files and their manifest."""
    (tmp_path / "data").mkdir()
    counts = {"a": {"tales": (2, 3, 70), "books": (1, 1, 20)}, "b": {"books": (1, 2, 40)}}
    files = {}
    keys = ("works", "documents", "bytes")
    for name, sources in counts.items():
        path = tmp_path / "data" / f"{name}.train.txt"
        path.write_text(f"Text of {name}.\n")
        files[path.name] = {
            "split": "train", "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "documents": 3, "raw_bytes": 60,
            "sources": {key: dict(zip(keys, row, strict=True)) for key, row in sources.items()},
        }  # fmt: skip
    about = {
        "tales": {"repo": "one/tales", "commit": "0123456789abcdef", "licence": "CC-BY (footer)"},
        "books": {"repo": "many", "commits": {"book-1": "abcdef0123456789"}, "licence": "Public domain"},
    }
    (tmp_path / "data" / "MANIFEST.json").write_text(json.dumps({"files": files, "sources": about}))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def licences(corpus, *words):
    command = [sys.executable, TOOL, corpus / "recipe.toml", corpus / "data" / "MANIFEST.json", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_table_adds_up_what_each_source_gave(corpus):
    lines = licences(corpus).stdout.splitlines()
    assert lines[2:4] == [
        "| tales | 2 | 3 | 70 | CC-BY (footer) | one/tales 0123456789 |",
        "| books | 2 | 3 | 60 | Public domain | book-1 abcdef0123 |",
    ]
    assert "In training: 6 documents, 120 bytes in 2 files." in lines


def test_a_file_with_other_content_is_refused(corpus):
    (corpus / "data" / "b.train.txt").write_text("Something else.\n")
    done = licences(corpus)
    assert done.returncode == 1
    assert "b.train.txt is not the file that" in done.stderr


def test_a_file_that_the_manifest_does_not_list_is_refused(corpus):
    (corpus / "other.txt").write_text("Something else.\n")
    (corpus / "recipe.toml").write_text(RECIPE.replace("data/b.train.txt", "other.txt"))
    done = licences(corpus)
    assert done.returncode == 1
    assert "other.txt is no training file of" in done.stderr


def test_works_are_named_where_the_licence_asks_for_it(corpus):
    works = corpus / "WORKS.jsonl"
    rows = [
        ("a", "train", "tales:1"),
        ("a", "validation", "tales:2"),
        ("c", "train", "tales:3"),
        ("b", "train", "books:4"),
    ]
    named = [{"shard": f, "split": s, "id": i, "author": "An Author", "title": f"Work {i[-1]}"} for f, s, i in rows]
    works.write_text("".join(json.dumps(row) + "\n" for row in named))
    # Names of shards are those of their files without the ending of the compressed text.
    manifest = corpus / "data" / "MANIFEST.json"
    renamed = json.loads(manifest.read_text().replace(".train.txt", ".train.txt.xz"))
    for name in ("a", "b"):
        path = corpus / "data" / f"{name}.train.txt"
        path.rename(path.with_suffix(".txt.xz"))
    manifest.write_text(json.dumps(renamed))
    (corpus / "recipe.toml").write_text(RECIPE.replace(".train.txt", ".train.txt.xz"))
    assert licences(corpus, "--works", works).stdout == "Work 1, An Author (tales:1)\n"


def test_the_corpus_of_the_default_model_is_all_listed(shared):
    recipe = Path(__file__).parents[2] / "recipes" / "open-english.toml"
    command = [sys.executable, TOOL, recipe, shared / "data" / "MANIFEST.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "in 13 files." in done.stdout
    sources = json.loads((shared / "data" / "MANIFEST.json").read_text())["sources"]
    assert sum(line.startswith(f"| {name} |") for name in sources for line in done.stdout.splitlines()) == len(sources)

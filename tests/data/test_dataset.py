"""data.dataset: Hugging Face datasets from a folder, streamed; errors in one line."""

import json
import sys
from dataclasses import replace

import pytest

from unmul.data import Dataset, dataset
from unmul.errors import DataError, MissingExtraError

datasets = pytest.importorskip("datasets", reason="needs the datasets extra")


@pytest.fixture(autouse=True)
def _quiet(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tales").mkdir()
    for split, count in (("train", 7), ("test", 2)):
        rows = [{"id": k, "text": f"Story {k} of {split}.", "body": None if k == 1 else "B"} for k in range(count)]
        (tmp_path / "tales" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Dataset(name=tmp_path / "tales")


def test_a_folder_of_files_is_read_by_split_and_field(folder, monkeypatch):
    monkeypatch.setattr(dataset, "ROWS", 3)
    assert list(folder.texts()) == [f"Story {k} of train." for k in range(7)]
    assert list(replace(folder, split="test").texts()) == [f"Story {k} of test." for k in range(2)]
    assert list(replace(folder, split="test", field="body").texts()) == ["B", ""]


def test_saved_datasets_are_read_like_any_folder(tmp_path):
    train = datasets.Dataset.from_list([{"text": "One."}, {"text": "Two."}])
    test = datasets.Dataset.from_list([{"text": "Three."}])
    train.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=train, test=test).save_to_disk(tmp_path / "both")
    assert list(Dataset(name=tmp_path / "one").texts()) == ["One.", "Two."]
    assert list(Dataset(name=tmp_path / "both", split="test").texts()) == ["Three."]
    with pytest.raises(DataError, match=r"one test cannot be read .*no splits"):
        list(Dataset(name=tmp_path / "one", split="test").texts())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"split": "valid"}, r"tales valid cannot be read \(Bad split: valid\. Available splits: \['train', 'test'\]"),
        ({"config": "large"}, r"tales large train cannot be read \(BuilderConfig 'large' not found"),
        ({"field": "story"}, r"tales train has no field 'story' \(it has id, text, body\): set data\.field"),
        ({"field": "id"}, r"tales train row 1: field 'id' is int, not text"),
    ],
)
def test_what_the_dataset_does_not_have_is_named(folder, change, problem):
    with pytest.raises(DataError, match=problem):
        list(replace(folder, **change).texts())


def test_a_dataset_without_network_is_one_line(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("Couldn't reach 'someone/tales' on the Hub\nwith a second line")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    wanted = r"^dataset someone/tales train at 1a2b cannot be read \(Couldn't reach .* on the Hub\): check .*network$"
    with pytest.raises(DataError, match=wanted):
        list(Dataset(name="someone/tales", revision="1a2b").texts())


def test_hub_names_are_passed_on_whole_and_streamed(monkeypatch):
    asked = []

    def load(*names, **options):
        asked.append((names, options))
        return datasets.Dataset.from_list([{"text": "One."}]).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert list(Dataset(name="someone/tales", config="small", split="test", revision="v2").texts()) == ["One."]
    assert asked == [(("someone/tales", "small"), {"split": "test", "revision": "v2", "streaming": True})]


def test_the_key_of_a_folder_follows_its_files_and_that_of_the_hub_its_names(folder):
    before = folder.key()
    (folder.name / "more.jsonl").write_text('{"text": "x"}\n')
    assert folder.key() != before
    named = Dataset(name="someone/tales")
    changes = ({"config": "small"}, {"split": "test"}, {"revision": "v2"}, {"field": "body"}, {"name": "other/tales"})
    assert len({named.key(), *(replace(named, **change).key() for change in changes)}) == 6


def test_without_the_library_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"datasets is not installed: pip install 'unmul\[datasets\]'"):
        list(folder.texts())

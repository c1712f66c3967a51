"""train.trackers: services that are named receive what the log receives; those that are absent are asked for."""

import json
import sys
from types import ModuleType, SimpleNamespace

import pytest

from unmul.errors import ConfigError, MissingExtraError
from unmul.train import load_recipe, run
from unmul.train.trackers import open_trackers


@pytest.fixture(params=["trackio", "wandb"])
def library(request, monkeypatch):
    """A library of wandb's interface that keeps what it is told."""
    module = ModuleType(request.param)
    module.begun, module.figures, module.ended = [], {}, []

    def log(figures, step):
        module.figures.setdefault(step, {}).update(figures)

    def init(**options):
        module.begun.append(options)
        print("welcome")  # as trackio does
        return SimpleNamespace(log=log)

    module.init, module.finish = init, lambda: module.ended.append(True)
    monkeypatch.setitem(sys.modules, request.param, module)
    return module


def test_a_project_receives_the_recipe_and_every_line_of_the_log(recipe_file, tmp_path, library, capsys):
    recipe = load_recipe(recipe_file, ["train.steps=4", f'train.trackers=["{library.__name__}"]'])
    run(recipe, out=tmp_path / "mine", lines=True)
    ((begun,), lines) = library.begun, (tmp_path / "mine" / "log.jsonl").read_text().splitlines()
    assert (begun["project"], begun["name"], begun["resume"]) == ("unmul", "mine", "never")
    assert begun["config"]["train"]["steps"] == 4
    assert library.ended == [True]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "welcome" in captured.err
    expected = {}
    for line in map(json.loads, lines):
        figures = {name: value for name, value in line.items() if name != "step" and value is not None}
        expected.setdefault(line["step"], {}).update(figures)
    assert library.figures == expected


def test_a_resumed_run_continues_and_may_have_other_trackers(recipe_file, tmp_path, library):
    run(load_recipe(recipe_file, ["train.steps=4"]), out=tmp_path / "mine", lines=True)
    recipe = load_recipe(recipe_file, ["train.steps=4", f'train.trackers=["{library.__name__}"]'])
    run(recipe, out=tmp_path / "mine", resume=True, lines=True)
    assert library.begun[0]["resume"] == "allow"


def test_tensorboard_files_hold_the_losses(recipe_file, tmp_path):
    pytest.importorskip("tensorboard")
    run(load_recipe(recipe_file, ["train.steps=3", 'train.trackers=["tensorboard"]']), out=tmp_path / "out", lines=True)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    lines = map(json.loads, (tmp_path / "out" / "log.jsonl").read_text().splitlines())
    expected = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert {event.step: event.value for event in events.Scalars("loss")} == pytest.approx(expected)


def test_a_tracker_that_does_not_start_is_named_and_the_others_are_closed(library, tmp_path, monkeypatch):
    def refuse(**options):
        raise ValueError("no login")

    other = {"trackio": "wandb", "wandb": "trackio"}[library.__name__]
    monkeypatch.setitem(sys.modules, other, SimpleNamespace(init=refuse))
    with pytest.raises(ConfigError, match=rf"train\.trackers {other} does not start \(no login\): set it up, or leave"):
        open_trackers([library.__name__, other], tmp_path, {}, resumed=False)
    assert library.ended == [True]


@pytest.mark.parametrize("name", ["tensorboard", "trackio", "wandb"])
def test_a_library_that_is_absent_is_named_with_its_extra(monkeypatch, tmp_path, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"{name} is not installed: pip install 'unmul\[{name}\]'"):
        open_trackers([name], tmp_path, {}, resumed=False)


def test_an_unknown_tracker_is_refused(recipe_file):
    with pytest.raises(ConfigError, match=r"train\.trackers 'mlflow' cannot be used: expected tensorboard or trackio"):
        load_recipe(recipe_file, ['train.trackers=["mlflow"]'])

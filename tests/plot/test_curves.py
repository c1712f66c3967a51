"""plot.curves: what a run's folder says, and what is refused."""

import json

import numpy as np
import pytest

from unmul.errors import DataError
from unmul.plot import name_apart, read_run
from unmul.plot.curves import smooth


def line(step, **figures):
    return {"step": step, "tokens": 10 * step, "flops": 600 * step, "seconds": step / 2, **figures}


def write_run(folder, lines, end="\n"):
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + end)
    return folder


def test_a_log_becomes_columns_of_steps_and_of_validations(tmp_path):
    lines = [line(1, loss=5.0, mfu=None), line(2, loss=4.0), line(2, validation_bits_per_byte=2.5), line(3, loss=3.0)]
    run = read_run(write_run(tmp_path / "mine", lines))
    assert (run.name, run.tokenizer) == ("mine", None)
    assert run.steps["loss"].tolist() == [5, 4, 3]
    assert run.steps["flops"].tolist() == [600, 1200, 1800]
    assert {name: column.tolist() for name, column in run.validation.items()} == {
        "step": [2], "tokens": [20], "flops": [1200], "seconds": [1], "validation_bits_per_byte": [2.5],
    }  # fmt: skip


def test_an_older_log_has_no_flops_and_a_young_one_no_validation(tmp_path):
    lines = [{"step": 1, "tokens": 10, "seconds": 1, "loss": 5}, line(2, loss=4)]
    run = read_run(write_run(tmp_path / "mine", lines))
    assert "flops" not in run.steps
    assert run.validation["validation_bits_per_byte"].size == 0


def test_joules_are_a_column_where_every_line_has_them(tmp_path):
    lines = [line(1, loss=5, joules=2.5), line(1, validation_bits_per_byte=2, joules=4), line(2, loss=4, joules=5)]
    run = read_run(write_run(tmp_path / "mine", lines))
    assert (run.steps["joules"].tolist(), run.validation["joules"].tolist()) == ([2.5, 5], [4])
    lines[1]["joules"] = None
    assert "joules" not in read_run(write_run(tmp_path / "other", lines)).steps


@pytest.mark.parametrize("count", [1, 49, 75, 1000])
def test_a_smoothed_loss_is_the_mean_of_the_last_two_percent(count):
    values = np.random.default_rng(0).standard_normal(count)
    window = max(round(0.02 * count), 1)
    expected = [values[max(k + 1 - window, 0) : k + 1].mean() for k in range(count)]
    np.testing.assert_allclose(smooth(values), expected, atol=1e-12)


def test_a_last_line_that_is_still_being_written_is_passed_over(tmp_path):
    run = read_run(write_run(tmp_path / "mine", [line(1, loss=5), line(2, loss=4)], end='\n{"step": 3, "tok'))
    assert run.steps["step"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "damage",
    ['{"step": 2, "tok', "[]", "7", '{"step": 2}', json.dumps(line(2, loss="low")), json.dumps(line(2, loss=np.nan))],
    ids=["cut", "list", "number", "incomplete", "words", "nan"],
)
def test_a_damaged_line_is_named(tmp_path, damage):
    folder = write_run(tmp_path / "mine", [line(1, loss=5)], end=f"\n{damage}\n{json.dumps(line(3, loss=4))}\n")
    with pytest.raises(DataError, match=r"line 2 of .*log\.jsonl is damaged"):
        read_run(folder)


def test_what_is_no_run_and_what_has_not_begun_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not a run's folder"):
        read_run(tmp_path)
    with pytest.raises(DataError, match="has no step yet"):
        read_run(write_run(tmp_path / "empty", [], end=""))


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path):
    folders = [write_run(tmp_path / place, [line(1, loss=5)]) for place in ("a/x", "b/x", "b/y")]
    names = [run.name for run in name_apart([read_run(folder) for folder in folders])]
    assert names == [str(folders[0]), str(folders[1]), "y"]


def test_the_tokenizer_is_that_of_the_checkpoints(tmp_path):
    runs = []
    for name, content in (("a", "{}"), ("b", "{}"), ("c", "[]")):
        folder = write_run(tmp_path / name, [line(1, loss=5)])
        (folder / "step-0000001").mkdir()
        (folder / "step-0000001" / "tokenizer.json").write_text(content)
        runs.append(read_run(folder))
    assert runs[0].tokenizer == runs[1].tokenizer != runs[2].tokenizer

"""The parity study at toy size: plans, runs that go on, rates from a sweep, and laws that are found again."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "parity"
PLANS = sorted(FOLDER.glob("*.toml"))
PLAN = """
recipe = "tiny.toml"
set = ["train.steps=3"]
[shapes]
small = ["model.num_hidden_layers=1"]
[[grid]]
shape = ["small"]
"model.type" = ["matmulfree"]
"train.lr" = [4e-3, 8e-3]
"""
RECIPE = """
[model]
hidden_size = 8
intermediate_size = 12
num_hidden_layers = 2
[data]
text = "text.txt"
validation = "text.txt"
vocab_size = 257
[train]
steps = 2
batch = 1
context = 5
dtype = "fp32"
"""


@pytest.fixture(autouse=True)
def study(monkeypatch):
    """The scripts import one another as neighbours."""
    monkeypatch.syspath_prepend(str(FOLDER))


def result(kind, shape, size, bits, **more):
    sizes = {"inner_parameters": size, "parameters": 2 * size, "flops": 6 * size, "weight_bytes": size}
    return {"name": f"{kind}{shape}{more}", "model.type": kind, "shape": shape, "bits_per_byte": bits, **sizes, **more}


def small_plan(folder, *overrides):
    """The plan of two runs on a line of text."""
    from runner import read_plan

    (folder / "text.txt").write_text("a small cat ran home, and the red dog said no. " * 4)
    (folder / "tiny.toml").write_text(RECIPE)
    (folder / "plan.toml").write_text(PLAN)
    return read_plan(folder / "plan.toml", overrides)


@pytest.mark.slow
def test_runs_end_as_results_and_are_not_made_twice(tmp_path, capsys):
    from runner import read_results, run_all

    plan = small_plan(tmp_path, "train.batch=2")
    jobs = list(plan.jobs())
    assert run_all(plan, jobs, tmp_path / "out", seconds=300, parallel=2)
    found = read_results(tmp_path / "out")
    assert {(one["train.lr"], one["steps"], one["tokens"]) for one in found} == {(4e-3, 3, 30), (8e-3, 3, 30)}
    assert all(one["bits_per_byte"] > 0 and one["weight_bytes"] < one["parameters"] for one in found)
    capsys.readouterr()
    assert run_all(plan, jobs, tmp_path / "out", seconds=300, parallel=2)
    assert "start" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_is_out_of_time_goes_on_in_the_next_call(tmp_path, monkeypatch, capsys):
    import runner

    monkeypatch.setattr(runner, "MARGIN", 0)
    monkeypatch.setattr(runner, "LEAST", 0)
    plan = small_plan(tmp_path, "train.steps=1000000")
    job = next(plan.jobs())
    steps = []
    for _ in range(2):
        assert not runner.run_all(plan, [job], tmp_path / "out", seconds=2, parallel=1)
        steps.append(int(capsys.readouterr().out.split()[-1]))
    assert 0 < steps[0] < steps[1]
    assert f"from step {steps[0]}" in (tmp_path / "out" / f"{job.name}.txt").read_text()


@pytest.mark.parametrize("seconds", [5, 75])
def test_nothing_begins_when_the_time_is_too_short_to_compile_and_save(tmp_path, seconds, capsys):
    from runner import run_all

    plan = small_plan(tmp_path)
    assert not run_all(plan, list(plan.jobs()), tmp_path / "out", seconds=seconds, parallel=2)
    assert "start" not in capsys.readouterr().out


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_every_plan_gives_runs_of_different_names_that_the_trainer_accepts(path):
    from runner import read_plan

    from unmul.train import load_recipe

    plan = read_plan(path)
    jobs = list(plan.jobs())
    assert len({job.name for job in jobs}) == len(jobs) > 3
    for job in jobs:
        load_recipe(plan.recipe, job.overrides)


def test_the_study_takes_the_best_rate_of_each_kind_at_its_shape_or_the_largest_that_was_swept():
    from parity import jobs
    from runner import read_plan

    swept = [
        result("matmulfree", "8m", 8, 1.3, **{"train.lr": 4e-3}),
        result("matmulfree", "8m", 8, 1.2, **{"train.lr": 8e-3}),
        result("matmulfree", "25m", 25, 1.1, **{"train.lr": 2e-3}),
        result("transformer", "8m", 8, 1.2, **{"train.lr": 1e-3}),
        result("matmulfree-full", "8m", 8, 1.2, **{"train.lr": 3e-3}),
        result("transformer-ternary", "8m", 8, 1.2, **{"train.lr": 5e-3}),
    ]  # fmt: skip
    found = {
        (job.point["shape"], job.point["model.type"]): job for job in jobs(read_plan(FOLDER / "parity.toml"), swept)
    }
    assert len(found) == 6
    assert found["8m", "matmulfree"].point["train.lr"] == 8e-3
    assert found["80m", "matmulfree"].point["train.lr"] == 2e-3
    assert found["80m", "transformer"].point["train.lr"] == 1e-3
    assert "train.lr=0.002" in found["80m", "matmulfree"].overrides


def test_the_study_takes_over_what_the_sweep_has_made_and_only_that(tmp_path):
    from parity import jobs
    from runner import adopt, read_plan, read_results

    plan, sweep, out = read_plan(FOLDER / "parity.toml"), tmp_path / "sweep", tmp_path / "out"
    swept = [job for job in read_plan(FOLDER / "sweep.toml").jobs() if job.point["train.lr"] in (2e-3, 8e-3)]
    results = [
        result(job.point["model.type"], "8m", 8, job.point["train.lr"]) | job.point | {"name": job.name}
        for job in swept
    ]
    for job in swept:
        (sweep / job.name).mkdir(parents=True)
        (sweep / job.name / "log.jsonl").write_text(job.name)
    out.mkdir()
    (sweep / "results.jsonl").write_text("".join(json.dumps(one) + "\n" for one in results))
    wanted = jobs(plan, results)
    for _ in range(2):  # the second time there is nothing left to take
        adopt(sweep, wanted, out)
    taken = {one["name"] for one in read_results(out)}
    assert {one["train.lr"] for one in read_results(out)} == {2e-3}
    assert len(read_results(out)) == len(taken) == 2
    assert taken == {path.parent.name for path in out.glob("*/log.jsonl")} <= {job.name for job in wanted}


def study_results(noise=0.0):
    random = np.random.default_rng(0)
    shapes = {"8m": 8e6, "25m": 25e6, "80m": 80e6}
    laws = {"matmulfree": (5.0, 0.08), "transformer": (4.0, 0.07)}
    return [
        result(kind, shape, size, a * size**-b * float(np.exp(random.normal(0, noise))), seed=seed)
        for kind, (a, b) in laws.items()
        for shape, size in shapes.items()
        for seed in (1, 2)
    ]


def test_laws_and_gaps_that_were_put_in_are_found_again(tmp_path):
    from fit import report

    found = report(study_results())
    assert found["noise"] == pytest.approx(0, abs=1e-12)
    assert found["laws"]["flops"]["transformer"]["b"]["value"] == pytest.approx(0.07)
    expected = 100 * (5 * 80e6**-0.08 / (4 * 80e6**-0.07) - 1)
    assert found["gap_percent"]["matmulfree"]["80m"]["value"] == pytest.approx(expected)
    assert found["gap_percent_at_equal_bytes"]["80m"]["value"] == pytest.approx(expected)


def test_intervals_hold_the_truth_and_are_as_wide_as_the_noise(tmp_path, monkeypatch, capsys):
    import fit

    found = fit.report(study_results(noise=0.01))
    assert 0.004 < found["noise"] < 0.025
    low, high = found["laws"]["flops"]["matmulfree"]["b"]["interval"]
    assert low < 0.08 < high < low + 0.05
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(one) + "\n" for one in study_results(noise=0.01)))
    monkeypatch.setattr(sys, "argv", ["fit.py", str(tmp_path), "--out", str(tmp_path / "report.json")])
    fit.main()
    assert json.loads(capsys.readouterr().out)["noise"] == found["noise"]
    assert len(json.loads((tmp_path / "report.json").read_text())["results"]) == 12


def test_without_a_second_seed_there_is_no_interval():
    from fit import report

    found = report([one for one in study_results() if one["seed"] == 1])
    assert found["noise"] is None
    assert found["gap_percent"]["matmulfree"]["8m"]["interval"] is None

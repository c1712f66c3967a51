"""train.log: what a step leaves in the file, in the trackers and before the reader's eyes."""

import json

import pytest
import torch

from unmul.train.log import Log
from unmul.train.loop import Step
from unmul.train.meter import Meter


class Kept:
    def __init__(self):
        self.figures, self.closed = [], False

    def record(self, step, figures):
        self.figures.append((step, dict(figures)))

    def close(self):
        self.closed = True


def open_log(path, *, done=0, steps=30, trackers=()):
    meter = Meter(tokens_per_step=100, flops_per_token=7, device=torch.device("cpu"), dtype="bf16")
    return Log(path, done=done, steps=steps, meter=meter, trackers=trackers, lines=True)


def step(done, seconds=0.5):
    return Step(done, loss=4.0, norm=1.5, rate=0.01, seconds=seconds)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_holds_the_step_the_totals_and_the_figures(tmp_path):
    with open_log(tmp_path / "log.jsonl") as log:
        log.step(step(3), 12.5)
        log.record(3, {"validation_bits_per_byte": 2.5}, None)
    first, second = lines(tmp_path / "log.jsonl")
    assert list(first) == [
        "step", "tokens", "flops", "seconds", "joules", "loss", "norm", "rate", "tokens_per_s", "mfu",
        "peak_memory_bytes",
    ]  # fmt: skip
    assert (first["step"], first["tokens"], first["flops"], first["tokens_per_s"]) == (3, 300, 2100, 200)
    assert (first["mfu"], first["joules"], second["joules"]) == (None, 12.5, None)
    assert second["validation_bits_per_byte"] == 2.5


def test_trackers_receive_numbers_only_and_are_closed_whatever_happens(tmp_path):
    kept = Kept()

    def interrupted():
        with open_log(tmp_path / "log.jsonl", trackers=[kept]) as log:
            log.step(step(1), None)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    ((number, figures),) = kept.figures
    assert (number, figures["loss"], "mfu" in figures, "step" in figures) == (1, 4.0, False, False)
    assert kept.closed


def test_the_shown_speed_is_that_of_the_last_twenty_steps(tmp_path, capsys):
    with open_log(tmp_path / "log.jsonl", steps=22) as log:
        for done, seconds in enumerate([100.0, 100.0, *[0.5] * 20], 1):
            log.step(step(done, seconds), None)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("step 22/22  loss 4.000  200 tokens/s")
    assert "GiB" in last


def test_lines_after_the_checkpoint_and_a_torn_one_are_cut_when_a_run_goes_on(tmp_path):
    path = tmp_path / "log.jsonl"
    with open_log(path) as log:
        for done in range(1, 6):
            log.step(step(done), 10.0 * done)
    seconds = lines(path)[2]["seconds"]
    with path.open("a") as handle:
        handle.write('{"step": 6, "tok')
    with open_log(path, done=3) as log:
        log.step(step(4), 7.0)
    assert [line["step"] for line in lines(path)] == [1, 2, 3, 4]
    assert lines(path)[3]["seconds"] >= seconds
    assert lines(path)[3]["joules"] == log.joules == 37


@pytest.mark.parametrize(("before", "after"), [(None, 5.0), (5.0, None)])
def test_joules_of_a_run_are_unknown_once_a_part_was_not_measured(tmp_path, before, after):
    for done, joules in ((1, before), (2, after)):
        with open_log(tmp_path / "log.jsonl", done=done - 1) as log:
            log.step(step(done), joules)
    assert (log.joules, lines(tmp_path / "log.jsonl")[1]["joules"]) == (None, None)


def test_a_log_from_before_joules_were_recorded_goes_on_without_them(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "tokens": 100, "seconds": 3}\n')
    with open_log(tmp_path / "log.jsonl", done=1) as log:
        log.step(step(2), 4.0)
    assert log.joules is None

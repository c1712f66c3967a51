"""unmul bench: figures for people, one document for programs, and clear refusals."""

import json
from dataclasses import replace

import pytest

from unmul.cli import bench as verb
from unmul.cli.app import main
from unmul.config import PRESETS, ModelConfig
from unmul.engine.bench import BenchRequest, measure


def test_json_is_one_document_with_the_promised_fields(packed, capsys):
    assert main(["bench", str(packed), "-t", "1", "--prompt", "3", "--new", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    promised = {
        "prefill_tokens_per_s", "decode_tokens_per_s", "prefill_spread", "decode_spread", "weight_bytes",
        "bandwidth_GBs", "machine_GBs", "bandwidth_share", "batch", "profile",
        "peak_rss_bytes", "joules_per_token", "joules_per_token_above_idle", "idle_watts", "joules_source",
        "joules_reason", "backend", "threads",
    }  # fmt: skip
    assert promised <= report.keys()
    assert report["model"] == str(packed)
    assert report["threads"] == 1


def test_text_names_speed_memory_and_what_was_not_measured(packed, capsys):
    assert main(["bench", str(packed), "--prompt", "3", "--new", "2"]) == 0
    text = capsys.readouterr().out
    assert "tokens/s over 3 tokens (median;" in text
    assert "energy" in text


def test_energy_is_told_with_and_without_idle_or_why_it_is_not(packed):
    report = measure(packed, BenchRequest(threads=1, prompt=3, new=2))
    unmeasured = {"joules_per_token": None, "joules_per_token_above_idle": None, "idle_watts": None}
    told = dict(verb._lines(replace(report, **unmeasured, joules_source=None, joules_reason="no counter")))
    assert told["energy"] == "not measured: no counter"
    measured = {"joules_per_token": 0.05, "joules_per_token_above_idle": 0.013, "idle_watts": 4.0}
    told = dict(verb._lines(replace(report, **measured, joules_source="RAPL package-0", joules_reason="")))
    assert told["energy"] == "0.05 J a token in decode, 0.013 J above idle (4.0 W); RAPL package-0"


def test_profile_and_batch_are_told_in_text(packed, capsys):
    assert main(["bench", str(packed), "--prompt", "3", "--new", "2", "--batch", "4", "--profile"]) == 0
    text = capsys.readouterr().out
    assert "tokens/s over 8 tokens (median;" in text
    assert "us a token: " in text
    assert "that these threads read" in text


def test_preset_is_written_loaded_and_removed(capsys, monkeypatch, tmp_path):
    small = ModelConfig(vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2)
    monkeypatch.setitem(PRESETS, "370m", small)
    monkeypatch.setattr(verb.tempfile, "tempdir", str(tmp_path))
    assert main(["bench", "--preset", "370m", "--prompt", "3", "--new", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["weight_bytes"] == small.ternary_weights // 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["folder", "--preset", "370m"], "was given both folder and --preset 370m"),
        (["--preset", "7b"], "unknown preset '7b'"),
        (["folder", "--new", "0"], "new 0 cannot be measured"),
    ],
)
def test_requests_that_cannot_be_measured_are_refused(words, problem, capsys):
    assert main(["bench", *words]) == 2
    assert problem in capsys.readouterr().err

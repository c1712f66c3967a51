"""LiteDRAM as it is generated, and ECPIX-5's design around it: settings, clock, pins."""

import re
from importlib.util import find_spec

import pytest

pytest.importorskip("amaranth")

from unmul.errors import GatewareError, MissingExtraError
from unmul.gateware import litedram
from unmul.gateware.designs import DESIGNS
from unmul.gateware.litedram import Ddr3Settings, generate
from unmul.gateware.parameters import Parameters

pytestmark = pytest.mark.skipif(not find_spec("litedram"), reason="needs unmul[rtl]")


def test_settings_name_registers_pins_and_the_parts_start(tmp_path):
    settings, clock = generate(75, tmp_path)
    assert clock == 75
    assert (settings.modules, settings.bitslips, settings.delays) == (2, 4, 8)
    assert settings.registers["ddrphy_dly_sel"] == settings.registers["ddrphy_rdly_dq_rst"] - 1
    assert [step.name.split(",")[0] for step in settings.steps] == [
        "Release reset", "Bring CKE high", "Load Mode Register 2", "Load Mode Register 3", "Load Mode Register 1",
        "Load Mode Register 0", "ZQ Calibration",
    ]  # fmt: skip
    assert Ddr3Settings.from_dict(settings.to_dict()) == settings


def test_the_same_clock_gives_the_same_verilog_with_pins_that_go_both_ways(tmp_path):
    texts = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        generate(75, tmp_path / name)
        texts.append((tmp_path / name / litedram.VERILOG).read_text())
    assert texts[0] == texts[1]
    assert len(re.findall(r"inout +wire +\[\d+:0\] ddram_dqs?(_p)?,", texts[0])) == 2


def test_a_clock_that_the_pll_cannot_make_becomes_the_nearest(tmp_path):
    _, clock = generate(77.7, tmp_path)
    assert clock == 78.125


def test_a_clock_that_no_pll_makes_is_told_with_the_remedy(tmp_path):
    with pytest.raises(GatewareError, match=r"litedram\.gen failed.*choose another --clock than 1000"):
        generate(1000, tmp_path)


def test_without_litedram_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("unmul.gateware.tools.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="litedram"):
        generate(75, tmp_path)


def test_the_design_has_the_boards_pins_and_the_settings_for_its_report(tmp_path):
    pytest.importorskip("amaranth_boards")
    chosen = Parameters(board="ecpix5-85f", lanes=16, port_bytes=16, clock_mhz=75.3)
    written = DESIGNS["ecpix5-85f"].write(chosen, tmp_path)
    assert written.parameters.clock_mhz == 75
    assert Ddr3Settings.from_dict(written.notes["ddr3"]).write_phase == 1
    pins = (tmp_path / "top.lpf").read_text()
    for site in (
        '"clk100_0__io" SITE "K23"', '"ddr3_0__clk__p" SITE "H3"', '"ddr3_0__dqs__p[1]" SITE "V1"',
        '"ddr3_0__dq__io[15]" SITE "W2"', '"ddr3_0__a__io[14]" SITE "H1"', '"uart_0__rx__io" SITE "R26"',
    ):  # fmt: skip
        assert site in pins
    assert "FREQUENCY PORT" in pins
    assert "__n" not in pins  # the second pin of a pair follows the first

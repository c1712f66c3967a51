"""Output registers move into block RAM where that changes nothing, and stay where it would."""

import pytest

from unmul.gateware.netlist import absorb_output_registers, cells_by_type

CLOCK, RESET = 2, 3


def ram(width: int, outputs: dict[str, int], **connections: list) -> dict:
    """A DP16KD that port B reads in every cycle."""
    controls = {"CLKA": [CLOCK], "CLKB": [CLOCK], "CEA": ["1"], "CEB": ["1"], "RSTA": ["0"], "RSTB": ["0"]}
    controls |= {"OCEA": ["0"], "OCEB": ["1"]}
    bits = f"{width:032b}"
    return {
        "type": "DP16KD",
        "parameters": {"DATA_WIDTH_A": bits, "DATA_WIDTH_B": bits, "CLKAMUX": "CLKA", "CLKBMUX": "CLKB"},
        "connections": controls | {port: [net] for port, net in outputs.items()} | connections,
        "port_directions": dict.fromkeys([*controls, *connections], "input") | dict.fromkeys(outputs, "output"),
    }


def flip_flop(data: int, output: int, *, clock: int = CLOCK, reset: int | str = "0", **parameters: str) -> dict:
    return {
        "type": "TRELLIS_FF",
        "parameters": {"CEMUX": "1 ", "CLKMUX": "CLK", "REGSET": "RESET"} | parameters,
        "connections": {"CLK": [clock], "LSR": [reset], "DI": [data], "Q": [output]},
        "port_directions": {"CLK": "input", "LSR": "input", "DI": "input", "Q": "output"},
    }


def netlist(cells: dict[str, dict], *outputs: int) -> dict:
    ports = {"out": {"direction": "output", "bits": list(outputs)}, "clk": {"direction": "input", "bits": [CLOCK]}}
    top = {"attributes": {"top": "1"}, "cells": cells, "ports": ports}
    return {"modules": {"library": {"attributes": {}}, "boxed": top}}


def test_a_word_of_both_ports_moves_whole():
    cells = {"ram": ram(36, {"DOA0": 10, "DOB0": 11, "DOB1": 99}), "a": flip_flop(10, 20), "b": flip_flop(11, 21)}
    found = netlist(cells, 20, 21)
    assert absorb_output_registers(found) == 2
    assert cells_by_type(found) == {"DP16KD": 1}
    assert [cells["ram"]["connections"][port] for port in ("DOA0", "DOB0", "DOB1")] == [[20], [21], [99]]
    assert cells["ram"]["parameters"]["REGMODE_A"] == cells["ram"]["parameters"]["REGMODE_B"] == "OUTREG"
    assert cells["ram"]["connections"]["OCEA"] == cells["ram"]["connections"]["OCEB"] == ["1"]


def test_a_narrow_port_moves_alone():
    cells = {"ram": ram(18, {"DOA0": 10, "DOB0": 11}), "b": flip_flop(11, 21)}
    found = netlist(cells, 10, 21)  # port A's bit goes out as it is
    assert absorb_output_registers(found) == 1
    assert "REGMODE_A" not in cells["ram"]["parameters"]
    assert cells["ram"]["parameters"]["REGMODE_B"] == "OUTREG"


@pytest.mark.parametrize(
    ("cells", "outputs"),
    [
        ({"ram": ram(36, {"DOB0": 10}), "a": flip_flop(10, 20), "b": flip_flop(10, 21)}, (20, 21)),
        ({"ram": ram(36, {"DOB0": 10}), "a": flip_flop(10, 20)}, (10, 20)),
        ({"ram": ram(36, {"DOB0": 10, "DOB1": 11}), "a": flip_flop(10, 20)}, (11, 20)),
        ({"ram": ram(36, {"DOB0": 10}), "a": flip_flop(9, 20, CEMUX="CE", reset=10)}, (20,)),
        ({"ram": ram(36, {"DOB0": 10}), "a": flip_flop(10, 20) | {"type": "TRELLIS_DPR16X4"}}, (20,)),
        ({"ram": ram(36, {"DOB0": 10}), "a": flip_flop(10, 20, reset=RESET)}, (20,)),
        ({"ram": ram(36, {"DOB0": 10}), "a": flip_flop(10, 20, REGSET="SET")}, (20,)),
        ({"ram": ram(36, {"DOB0": 10}), "a": flip_flop(10, 20, CEMUX="CE")}, (20,)),
        ({"ram": ram(36, {"DOB0": 10}), "a": flip_flop(10, 20, clock=4)}, (20,)),
        ({"ram": ram(36, {"DOB0": 10}), "a": flip_flop(10, 20, CLKMUX="INV")}, (20,)),
        ({"ram": ram(36, {"DOB0": 10}, CEB=[5]), "a": flip_flop(10, 20)}, (20,)),
        ({"ram": ram(36, {"DOB0": 10}, RSTB=[RESET]), "a": flip_flop(10, 20)}, (20,)),
    ],
    ids=[
        "read twice",
        "read from outside",
        "half a word",
        "read as a control",
        "read by a memory",
        "reset",
        "starts at one",
        "enabled",
        "of another clock",
        "of the other edge",
        "behind an enable",
        "behind a reset",
    ],
)
def test_a_register_that_is_not_the_same_one_stays(cells, outputs):
    before = list(cells)
    assert absorb_output_registers(netlist(cells, *outputs)) == 0
    assert list(cells) == before
    assert "REGMODE_B" not in cells["ram"]["parameters"]

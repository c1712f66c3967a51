"""Registers that yosys leaves beside ECP5's block RAM, moved into the RAM, which has one at its output.

yosys maps no memory to that register (YosysHQ/yosys issue 5814). With it data are out of the RAM 1 ns after the clock,
without it 5.8 ns. Nothing else changes: it is the same register in another place.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

__all__ = ["absorb_output_registers", "cells_by_type"]

PORTS = "AB"  # of a DP16KD
PAIRED_WIDTH = 36  # at which the outputs of both ports are one word, read by port B


def cells_by_type(netlist: dict[str, Any]) -> Counter[str]:
    """Cells of a flat netlist, as yosys' write_json gives it."""
    return Counter(cell["type"] for cell in _module(netlist)["cells"].values())


def absorb_output_registers(netlist: dict[str, Any]) -> int:
    """Move registers into the block RAMs that they follow, in place; how many flip-flops that saves.

    A word moves whole or not at all, and only where nothing else reads the RAM, the RAM reads in every cycle and the
    register is a plain one: no enable, no reset.
    """
    cells = _module(netlist)["cells"]
    readers = _readers(_module(netlist))
    absorbed = 0
    for ram in [cell for cell in cells.values() if cell["type"] == "DP16KD"]:
        for clock, ports in _words(ram):
            bits = [(port, readers[net]) for port, net in _outputs(ram, ports) if readers[net]]
            if bits and _reads_always(ram, clock) and all(_is_plain(cells, each, ram, clock) for _, each in bits):
                for port, [(name, _)] in bits:
                    ram["connections"][port] = cells.pop(name)["connections"]["Q"]
                _switch_on(ram, ports)
                absorbed += len(bits)
    return absorbed


def _module(netlist: dict[str, Any]) -> dict[str, Any]:
    return next(each for each in netlist["modules"].values() if "top" in each["attributes"])


def _readers(module: dict[str, Any]) -> dict[Any, list[tuple[str, str]]]:
    """Cell and port of everything that reads a net; outputs of the module have no cell."""
    found = defaultdict(list)
    for name, cell in module["cells"].items():
        for port, nets in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for net in nets:
                    found[net].append((name, port))
    for name, port in module["ports"].items():
        for net in port["bits"] if port["direction"] == "output" else ():
            found[net].append(("", name))
    return found


def _words(ram: dict[str, Any]) -> list[tuple[str, str]]:
    """Words that a RAM gives: the port whose clock reads them, and the ports at which they come out."""
    paired = int(ram["parameters"]["DATA_WIDTH_A"], 2) == PAIRED_WIDTH
    return [("B", PORTS)] if paired else [(port, port) for port in PORTS]


def _outputs(ram: dict[str, Any], ports: str) -> Iterator[tuple[str, Any]]:
    """Port and net of each bit of a word."""
    for name, nets in ram["connections"].items():
        if name[:2] == "DO" and name[2] in ports:
            yield name, nets[0]


def _reads_always(ram: dict[str, Any], clock: str) -> bool:
    return all(ram["connections"][f"{control}{clock}"] == [level] for control, level in (("CE", "1"), ("RST", "0")))


def _is_plain(cells: dict[str, Any], readers: list[tuple[str, str]], ram: dict[str, Any], clock: str) -> bool:
    """Whether a bit goes to one flip-flop and nowhere else, of the RAM's clock, without enable or reset."""
    [(name, port), *others] = readers
    if others or port != "DI" or cells[name]["type"] != "TRELLIS_FF":
        return False
    connections, parameters = cells[name]["connections"], cells[name]["parameters"]
    return all(
        (
            connections["CLK"] == ram["connections"][f"CLK{clock}"],
            connections["LSR"] == ["0"],
            parameters["CEMUX"].strip() == "1",
            parameters["CLKMUX"] == ram["parameters"][f"CLK{clock}MUX"].replace(f"CLK{clock}", "CLK"),
            parameters["REGSET"] == "RESET",
        )
    )


def _switch_on(ram: dict[str, Any], ports: str) -> None:
    for port in ports:
        ram["parameters"][f"REGMODE_{port}"] = "OUTREG"
        ram["connections"][f"OCE{port}"] = ["1"]

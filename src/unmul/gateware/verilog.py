"""The core as plain Verilog."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from unmul.errors import GatewareError, MissingExtraError
from unmul.gateware.parameters import Parameters

if TYPE_CHECKING:
    from amaranth.lib.wiring import Component

__all__ = ["BOXED", "TOP", "component_verilog", "core_verilog"]

TOP = "core"
BOXED = "boxed"


@functools.cache
def core_verilog(parameters: Parameters, *, boxed: bool = False, held: bool = False) -> str:
    """Verilog of the accelerator with the top module TOP; boxed, behind shift registers, with the top module BOXED.

    Held, its reset comes out of a register, so that it is quicker to simulate. The same parameters give the same text.

    Raises:
        GatewareError: parameters that no gateware can have.
        MissingExtraError: Amaranth is not installed.
    """
    try:
        from amaranth.back import verilog
    except ImportError as error:
        raise MissingExtraError("amaranth", "rtl") from error
    from unmul.gateware.boxed import Boxed
    from unmul.gateware.core import Core
    from unmul.gateware.fetch import line_words
    from unmul.gateware.held import HeldReset

    _check(parameters, line_words(parameters))
    kind = Boxed if boxed else HeldReset if held else Core
    text: str = verilog.convert(
        kind(parameters), name=BOXED if boxed else TOP, emit_src=False, strip_internal_attrs=True
    )
    return text


def component_verilog(component: Component) -> str:
    """Verilog of a component as the module TOP; the parts of a member's path are joined by one underscore."""
    from amaranth.back import verilog
    from amaranth.hdl import Value

    members = component.signature.flatten(component)  # Verilator mangles names with two, which is Amaranth's own way
    ports = {"_".join(map(str, path)): (Value.cast(value), None) for path, _, value in members}
    text: str = verilog.convert(component, name=TOP, ports=ports, emit_src=False, strip_internal_attrs=True)
    return text


def _check(parameters: Parameters, line: int) -> None:
    if parameters.port_bytes & (parameters.port_bytes - 1):
        raise GatewareError(f"port_bytes {parameters.port_bytes} is no power of two", "choose 1, 2, 4, 8, 16, ...")
    if parameters.buffer_words < line:
        raise GatewareError(f"buffer_words {parameters.buffer_words} does not hold a beat", f"choose {line} or more")

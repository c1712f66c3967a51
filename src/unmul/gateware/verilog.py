"""The core as plain Verilog."""

from __future__ import annotations

from unmul.errors import MissingExtraError
from unmul.gateware.parameters import Parameters

__all__ = ["TOP", "core_verilog"]

TOP = "core"


def core_verilog(parameters: Parameters) -> str:
    """Verilog of the accelerator; its top module is TOP. The same parameters give the same text.

    Raises:
        GatewareError: parameters that no gateware can have.
        MissingExtraError: Amaranth is not installed.
    """
    try:
        from amaranth.back import verilog
    except ImportError as error:
        raise MissingExtraError("amaranth", "rtl") from error
    from unmul.gateware.core import Core

    text: str = verilog.convert(Core(parameters), name=TOP, emit_src=False, strip_internal_attrs=True)
    return text

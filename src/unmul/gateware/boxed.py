"""The core with its ports behind shift registers, so that it fits any package: what place and route measures.

Every input comes from a chain of flip-flops that one pin fills, every output goes into one that another pin empties.
All paths of the core then lie between flip-flops of one clock, and none is optimised away.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.core import Core
from unmul.gateware.parameters import Parameters

__all__ = ["Boxed"]

_WATCHED = ("_write", "_vd", "_index", "_element")  # for simulators: no board has these ports


class Boxed(wiring.Component):
    """Members: scan_in, scan_out; capture, take the outputs instead of shifting them."""

    def __init__(self, parameters: Parameters) -> None:
        self._core = Core(parameters)
        super().__init__({"scan_in": In(1), "capture": In(1), "scan_out": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.core = core = self._core
        ports = [
            (member.flow, Value.cast(value)) for path, member, value in core.signature.flatten(core) if _kept(path)
        ]
        inputs = [value for flow, value in ports if flow == In]
        outputs = Cat(value for flow, value in ports if flow == Out)
        fed, read = Signal(sum(map(len, inputs))), Signal(len(outputs))
        m.d.sync += [
            fed.eq(Cat(self.scan_in, fed)),
            read.eq(Mux(self.capture, outputs, Cat(self.scan_in, read))),
            self.scan_out.eq(read[-1]),
        ]
        m.d.comb += Cat(inputs).eq(fed)
        return m


def _kept(path: tuple[str | int, ...]) -> bool:
    return not str(path[0]).endswith(_WATCHED) or str(path[0]).startswith(("program", "state"))

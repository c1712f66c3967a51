"""The core as it is simulated: its reset out of a register.

The next value of nearly every register follows from the reset. If that is a port, a simulator computes all of them
whenever any input may have changed; if it is a register, once a cycle.
"""

from __future__ import annotations

from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal
from amaranth.lib import wiring

from unmul.gateware.core import Core
from unmul.gateware.parameters import Parameters
from unmul.gateware.pipeline import register

__all__ = ["HeldReset"]


class HeldReset(wiring.Component):
    """Members: those of the core, which is reset a cycle later."""

    def __init__(self, parameters: Parameters) -> None:
        self._core = Core(parameters)
        super().__init__(self._core.signature)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.core = ClockDomain(local=True)
        m.submodules.core = DomainRenamer("core")(self._core)
        wiring.connect(m, wiring.flipped(self), self._core)
        m.d.comb += [
            ClockSignal("core").eq(ClockSignal()),
            ResetSignal("core").eq(register(m, ResetSignal())),
        ]
        return m

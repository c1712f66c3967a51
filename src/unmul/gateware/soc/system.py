"""The core with its host: a serial line, the link behind it, and one memory for both. What every board has."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.core import Core
from unmul.gateware.parameters import Parameters
from unmul.gateware.soc.link import CORE_PORTS, Link
from unmul.gateware.soc.port import MemoryPort
from unmul.gateware.soc.uart import UartReceiver, UartSender

__all__ = ["System"]

RESET_CYCLES = 128  # more than the longest pipeline's


class System(wiring.Component):
    """Members: rx and tx, the serial line of `divisor` cycles a bit; memory, of the weights; control, of the memory
    controller's registers.
    """

    def __init__(self, parameters: Parameters, divisor: int) -> None:
        self._parameters, self._divisor = parameters, divisor
        memory = Out(MemoryPort(8 * parameters.port_bytes))
        super().__init__({"rx": In(1, init=1), "tx": Out(1, init=1), "memory": memory, "control": Out(MemoryPort(32))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(self._divisor)
        m.submodules.sender = sender = UartSender(self._divisor)
        core, link, reset = Core(self._parameters), Link(self._parameters), self._reset(m, receiver.broken)
        m.submodules.core, m.submodules.link = ResetInserter(reset)(core), ResetInserter(reset)(link)
        wiring.connect(m, link.sent, sender.bytes)
        wiring.connect(m, wiring.flipped(self.control), link.control)
        m.d.comb += [
            receiver.line.eq(self.rx),
            self.tx.eq(sender.line),
            link.received.eq(receiver.byte),
            link.received_valid.eq(receiver.valid),
        ]
        for name in CORE_PORTS:
            given = link.signature.members[name].flow == Out
            m.d.comb += (
                getattr(core, name).eq(getattr(link, name)) if given else getattr(link, name).eq(getattr(core, name))
            )
        self._share_memory(m, core, link)
        return m

    def _reset(self, m: Module, broken: Value) -> Signal:
        """A break's reset lasts until pipelines, whose registers have none, have run empty."""
        left, reset = Signal(range(RESET_CYCLES)), Signal()
        m.d.sync += [left.eq(Mux(broken, RESET_CYCLES - 1, Mux(left.any(), left - 1, 0))), reset.eq(left.any())]
        return reset

    def _share_memory(self, m: Module, core: Core, link: Link) -> None:
        """The core's while it runs, else the link's."""
        ours, theirs, running = self.memory.requests, link.memory.requests, link.running
        m.d.comb += [
            ours.payload.eq(theirs.payload),
            ours.valid.eq(Mux(running, core.address_valid, theirs.valid)),
            core.address_ready.eq(running & ours.ready),
            theirs.ready.eq(~running & ours.ready),
            core.data.eq(self.memory.data),
            core.data_valid.eq(running & self.memory.data_valid),
            link.memory.data.eq(self.memory.data),
            link.memory.data_valid.eq(~running & self.memory.data_valid),
        ]
        with m.If(running):
            m.d.comb += [ours.payload.address.eq(core.address), ours.payload.write.eq(0)]

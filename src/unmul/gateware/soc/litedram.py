"""LiteDRAM's controller of DDR3 as a memory port, and its registers as another; gateware/litedram.py generates it."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.fetch import ADDRESS_BITS, Skid
from unmul.gateware.soc.port import MemoryPort, memory_request

__all__ = ["LiteDram", "NativePort", "WishbonePort"]

WIDTH = 128  # bits of a burst of eight on 16 pins: the controller's own word


class NativePort(wiring.Signature):
    """LiteDRAM's native port, named as its own, but for the strobes of bytes, which are always on.

    A command is a handshake. The data of a write are taken in the cycle with wdata_ready, that of a read come with
    rdata_valid, in the order of the commands; neither waits.
    """

    def __init__(self) -> None:
        command = {"cmd_valid": Out(1), "cmd_ready": In(1), "cmd_we": Out(1), "cmd_addr": Out(ADDRESS_BITS)}
        written = {"wdata_valid": Out(1), "wdata_ready": In(1), "wdata_data": Out(WIDTH)}
        super().__init__({**command, **written, "rdata_valid": In(1), "rdata_data": In(WIDTH)})


class WishbonePort(wiring.Signature):
    """Wishbone with words of 32 bits, all of which are always wanted."""

    def __init__(self) -> None:
        asked = {"cyc": Out(1), "stb": Out(1), "we": Out(1), "adr": Out(30), "dat_w": Out(32)}
        super().__init__({**asked, "dat_r": In(32), "ack": In(1)})


class LiteDram(wiring.Component):
    """Members: memory and control, the ports; native and wishbone, what LiteDRAM has in their place.

    A write holds up what comes after it until the controller has taken its data: writes come from a slow line.
    """

    def __init__(self) -> None:
        ports = {"memory": In(MemoryPort(WIDTH)), "control": In(MemoryPort(32))}
        super().__init__({**ports, "native": Out(NativePort()), "wishbone": Out(WishbonePort())})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._connect_memory(m)
        self._connect_control(m)
        return m

    def _connect_memory(self, m: Module) -> None:
        layout, native, entering = memory_request(WIDTH), self.native, self.memory.requests
        m.submodules.entry = entry = Skid(layout.size)
        request = data.View(layout, entry.leaves.payload)
        m.d.comb += [
            entry.enters.payload.eq(entering.payload),
            entry.enters.valid.eq(entering.valid),
            entering.ready.eq(entry.enters.ready),
            native.cmd_we.eq(request.write),
            native.cmd_addr.eq(request.address),
            native.wdata_data.eq(request.data),
        ]
        m.d.sync += [self.memory.data.eq(native.rdata_data), self.memory.data_valid.eq(native.rdata_valid)]
        with m.FSM():
            with m.State("COMMAND"):
                m.d.comb += [
                    native.cmd_valid.eq(entry.leaves.valid),
                    entry.leaves.ready.eq(native.cmd_ready & ~request.write),
                ]
                with m.If(native.cmd_valid & native.cmd_ready & request.write):
                    m.next = "DATA"
            with m.State("DATA"):
                m.d.comb += [native.wdata_valid.eq(1), entry.leaves.ready.eq(native.wdata_ready)]
                with m.If(native.wdata_ready):
                    m.next = "COMMAND"

    def _connect_control(self, m: Module) -> None:
        bus, asked = self.wishbone, self.control.requests
        m.d.comb += [
            bus.cyc.eq(asked.valid),
            bus.stb.eq(asked.valid),
            bus.we.eq(asked.payload.write),
            bus.adr.eq(asked.payload.address),
            bus.dat_w.eq(asked.payload.data),
            asked.ready.eq(bus.ack),
        ]
        m.d.sync += [self.control.data.eq(bus.dat_r), self.control.data_valid.eq(bus.ack & ~bus.we)]

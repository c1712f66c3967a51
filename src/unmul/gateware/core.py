"""The whole accelerator: sequencer, units, registers, state, program RAM and weight stream behind one set of ports."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.fetch import ADDRESS_BITS, WeightStream
from unmul.gateware.isa import INSTRUCTIONS
from unmul.gateware.memory import BlockRam
from unmul.gateware.norm import NormUnit
from unmul.gateware.operation import ELEMENT, is_one_of
from unmul.gateware.parameters import QUANTISED_REGISTERS, Parameters
from unmul.gateware.pipeline import register
from unmul.gateware.row import RowUnit
from unmul.gateware.scoreboard import UNITS
from unmul.gateware.sequencer import Sequencer
from unmul.gateware.taker import StreamUnit
from unmul.gateware.vectors import VectorFile

__all__ = ["Core"]

_WRITERS = tuple(name for name, each in INSTRUCTIONS.items() if "vd" in each.fields)


class Core(wiring.Component):
    """Members of the host: start with token, first and prefill, still until done; next_token, logit with logit_valid,
    saturations. While the core is idle: program_write, state_write and state_read_data at an address each, the latter
    two cycles after it. Of the memory: address with address_valid and address_ready; data with data_valid, in their
    order. For who watches: busy of each unit, starved, why no instruction issues, and every element that is written to
    a vector register.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        ports = {
            "start": In(1),
            "token": In(16),
            "first": In(1),
            "prefill": In(1),
            "done": Out(1),
            "next_token": Out(16),
            "logit_valid": Out(1),
            "logit": Out(ELEMENT),
            "saturations": Out(32),
            "program_write": In(1),
            "program_address": In(range(parameters.program_depth)),
            "program_data": In(64),
            "state_write": In(1),
            "state_address": In(range(parameters.state_depth)),
            "state_write_data": In(ELEMENT),
            "state_read_data": Out(ELEMENT),
            "address": Out(ADDRESS_BITS),
            "address_valid": Out(1),
            "address_ready": In(1),
            "data": In(8 * parameters.port_bytes),
            "data_valid": In(1),
            "starved": Out(1),
            "taken": Out(1),
            "waits_for_unit": Out(1),
            "waits_for_register": Out(1),
            "waits_for_queue": Out(1),
        }
        for unit in UNITS:
            ports |= {f"{unit}_busy": Out(1), f"{unit}_write": Out(1), f"{unit}_vd": Out(3)}
            ports |= {f"{unit}_index": Out(16), f"{unit}_element": Out(ELEMENT)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._parameters
        m.submodules.sequencer = self._sequencer = Sequencer(p)
        m.submodules.vectors = self._vectors = VectorFile(p.vector_depth, len(UNITS))
        m.submodules.weights = self._weights = WeightStream(p)
        m.submodules.stream = self._stream = StreamUnit(p)
        m.submodules.norm = self._norm = NormUnit(p)
        m.submodules.row = self._row = RowUnit(p)
        for number, unit in enumerate((self._stream, self._norm, self._row)):
            self._connect(m, number, unit)
        self._connect_host(m)
        self._connect_memory(m)
        self._quantised(m)
        self._state(m)
        return m

    def _connect(self, m: Module, number: int, component: wiring.Component) -> None:
        """A unit with the sequencer and its vector registers."""
        name, sequencer, access = UNITS[number], self._sequencer, component.vectors
        operation, owner = component.unit.operation, self._vectors.owner(number)
        wiring.connect(m, access, self._vectors.access(number))
        m.d.comb += [
            operation.eq(getattr(sequencer, f"{name}_operation")),
            component.unit.start.eq(getattr(sequencer, f"{name}_start")),
            getattr(sequencer, f"{name}_done").eq(component.unit.done),
            owner.vd.eq(operation.vd),
            owner.va.eq(operation.vd if name == "stream" else operation.va),
            owner.vb.eq(operation.vb),
            owner.owned.eq(getattr(sequencer, f"{name}_owned")),
            owner.clear.eq(register(m, component.unit.start & is_one_of(operation.opcode, *_WRITERS))),
            getattr(self, f"{name}_busy").eq(getattr(sequencer, f"{name}_busy")),
            getattr(self, f"{name}_write").eq(access.write),
            getattr(self, f"{name}_vd").eq(operation.vd),
            getattr(self, f"{name}_index").eq(access.write_address),
            getattr(self, f"{name}_element").eq(access.write_data),
        ]

    def _connect_host(self, m: Module) -> None:
        sequencer, units = self._sequencer, (self._stream, self._norm, self._row)
        m.submodules.program = program = BlockRam(64, self._parameters.program_depth)
        m.d.comb += [
            program.read_address.eq(sequencer.program_address),
            program.write_address.eq(self.program_address),
            program.write_data.eq(self.program_data),
            program.write_enable.eq(self.program_write),
            sequencer.word.eq(register(m, program.read_data)),
            sequencer.seen.eq(self._vectors.seen),
            sequencer.scale.eq(self._norm.scale),
            sequencer.value.eq(self._stream.value),
            self.next_token.eq(self._stream.next_token),
            self.logit_valid.eq(self._stream.logit_valid),
            self.logit.eq(self._stream.logit),
            self.starved.eq(self._stream.starved),
            self._row.first.eq(self.first),
        ]
        m.d.comb += [getattr(sequencer, name).eq(getattr(self, name)) for name in ("start", "token", "prefill")]
        watched = ("done", "waits_for_unit", "waits_for_register", "waits_for_queue")
        m.d.comb += [getattr(self, name).eq(getattr(sequencer, name)) for name in watched]
        m.d.sync += self.saturations.eq(self.saturations + register(m, sum(unit.vectors.clipped for unit in units)))

    def _connect_memory(self, m: Module) -> None:
        weights = self._weights
        wiring.connect(m, self._sequencer.requests, weights.requests)
        wiring.connect(m, weights.beats, self._stream.beats)
        m.d.comb += [
            self.address.eq(weights.addresses.payload),
            self.address_valid.eq(weights.addresses.valid),
            weights.addresses.ready.eq(self.address_ready),
            weights.data.eq(self.data),
            weights.data_valid.eq(self.data_valid),
            self.taken.eq(weights.beats.valid & weights.beats.ready),
        ]

    def _quantised(self, m: Module) -> None:
        """The quantised registers, one memory: a power of two of rows each."""
        rows = 1 << (self._parameters.quantised_rows - 1).bit_length()
        row_bits = (rows - 1).bit_length()
        m.submodules.quantised = ram = BlockRam(8 * self._parameters.lanes, rows * QUANTISED_REGISTERS)
        m.d.comb += [
            ram.write_address.eq(Cat(self._norm.row_address[:row_bits], self._norm.unit.operation.qd)),
            ram.write_data.eq(self._norm.row_data),
            ram.write_enable.eq(self._norm.row_write),
            ram.read_address.eq(Cat(self._stream.row_address[:row_bits], self._stream.unit.operation.qa)),
            self._stream.codes.eq(ram.read_data),
        ]

    def _state(self, m: Module) -> None:
        """The state, the row unit's while that is busy, else the host's."""
        access, busy = self._row.state, self.row_busy
        m.submodules.state = ram = BlockRam(ELEMENT.width, self._parameters.state_depth)
        held = register(m, ram.read_data.as_signed())
        m.d.comb += [
            access.h.eq(held),
            self.state_read_data.eq(held),
            ram.read_address.eq(Mux(busy, access.read_address, self.state_address)),
        ]
        m.d.sync += [
            ram.write_address.eq(Mux(busy, access.write_address, self.state_address)),
            ram.write_data.eq(Mux(busy, self._row.vectors.write_data, self.state_write_data)),
            ram.write_enable.eq(Mux(busy, access.write, self.state_write)),
        ]

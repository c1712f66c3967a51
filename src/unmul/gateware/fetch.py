"""The weight stream: requests in, port words ahead of time into a buffer, whole beats out.

Fetcher asks for every word as soon as the buffer has a place for it, so the answers need no back-pressure; WordBuffer
is that buffer, in block RAM. It keeps lines of so many words that one holds a beat, so that a beat a cycle can leave it
even where the port is narrower; a request reads whole lines. Gearbox cuts lines into beats and drops what is left over.
"""

# P bytes of a port word, B bytes of a beat

from __future__ import annotations

import functools
import operator

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.memory import BlockRam
from unmul.gateware.parameters import Parameters
from unmul.gateware.pipeline import delay, register

__all__ = ["ADDRESS_BITS", "REQUEST", "Fetcher", "Gearbox", "Skid", "WeightStream", "WordBuffer", "line_words"]

ADDRESS_BITS = 32  # of a port word
BEAT_BITS = 26  # beats of one request
QUEUED = 4  # requests that may wait
SPARE = 8  # lines behind the buffer: more than the cycles from asking for one to its leaving

REQUEST = data.StructLayout({"address": ADDRESS_BITS, "beats": BEAT_BITS})


def line_words(parameters: Parameters) -> int:
    """Port words of a line of the buffer: the power of two that first holds a beat."""
    return 1 << (-(-parameters.beat_bytes // parameters.port_bytes) - 1).bit_length()


def _line_bits(parameters: Parameters) -> int:
    """Of a count of lines of one request."""
    line = line_words(parameters) * parameters.port_bytes
    return (((1 << BEAT_BITS) * parameters.beat_bytes + line - 1) // line).bit_length()


def _times(value: Value, factor: int) -> Value:
    """A product from adders alone: faster than the two multipliers that would be taken for it."""
    return functools.reduce(
        operator.add, [value << place for place in range(factor.bit_length()) if factor >> place & 1]
    )


class Fetcher(wiring.Component):
    """Turns a request of words into one address a word, never more than the buffer has room for.

    Members: requests, {address, lines}; addresses, a stream; taken, a line left the buffer.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._line = line_words(parameters)
        self._room = parameters.buffer_words // self._line * self._line
        layout = data.StructLayout({"address": ADDRESS_BITS, "lines": _line_bits(parameters)})
        super().__init__(
            {"requests": In(stream.Signature(layout)), "addresses": Out(stream.Signature(ADDRESS_BITS)), "taken": In(1)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        room = Signal(range(self._room + 1), init=self._room)
        left = Signal(len(self.requests.payload.lines) + self._line.bit_length() - 1)
        coming = Signal.like(room)
        more, free, asked = Signal(), Signal(init=1), Signal()  # words are left; there is room
        m.d.comb += [
            self.addresses.valid.eq(more & free),
            asked.eq(self.addresses.valid & self.addresses.ready),
            self.requests.ready.eq(~more),
            coming.eq(room + Mux(self.taken, self._line, 0) - asked),
        ]
        m.d.sync += [room.eq(coming), free.eq(coming.any())]
        with m.If(asked):
            m.d.sync += [left.eq(left - 1), more.eq(left != 1), self.addresses.payload.eq(self.addresses.payload + 1)]
        with m.If(self.requests.ready & self.requests.valid):
            payload = self.requests.payload
            m.d.sync += [left.eq(payload.lines * self._line), more.eq(1), self.addresses.payload.eq(payload.address)]
        return m


class WordBuffer(wiring.Component):
    """Words in, lines out, in block RAM; whoever writes has reserved a place, so there is no ready at the input.

    A line is read as soon as one of SPARE places behind the RAM is free for it, so nothing ever stops on its way there,
    and the RAM's output register needs no enable.

    Members: write, write_data; lines, a stream.
    """

    def __init__(self, width: int, words: int, depth: int) -> None:
        self._words, self._depth = words, depth
        ports = {"write": In(1), "write_data": In(width), "lines": Out(stream.Signature(width * words))}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ram = ram = BlockRam(len(self.lines.payload), self._depth)
        m.submodules.behind = behind = fifo.SyncFIFOBuffered(width=len(self.lines.payload), depth=SPARE)
        held, free = Signal(range(self._depth + 1)), Signal(range(SPARE + 1), init=SPARE)
        write, read, taken = self._gather(m, ram), Signal(), Signal()
        m.d.comb += [
            ram.write_enable.eq(write),
            read.eq(held.any() & free.any()),
            behind.w_data.eq(register(m, ram.read_data)),
            behind.w_en.eq(delay(m, read, 2)),
            self.lines.payload.eq(behind.r_data),
            self.lines.valid.eq(behind.r_rdy),
            behind.r_en.eq(self.lines.ready),
            taken.eq(self.lines.valid & self.lines.ready),
        ]
        m.d.sync += [held.eq(held + write - read), free.eq(free + taken - read)]
        for moved, address in ((write, ram.write_address), (read, ram.read_address)):
            place = Signal.like(address)
            m.d.comb += address.eq(place)
            with m.If(moved):
                m.d.sync += place.eq(Mux(place == self._depth - 1, 0, place + 1))
        return m

    def _gather(self, m: Module, ram: BlockRam) -> Value:
        """Put words side by side, the first one lowest; whether a line is whole."""
        width, number = len(self.write_data), Signal(range(self._words))
        line = Signal(width * self._words)
        last = number == self._words - 1
        m.d.comb += ram.write_data.eq(line)
        with m.If(self.write):
            m.d.sync += [line.eq(Cat(line[width:], self.write_data)), number.eq(Mux(last, 0, number + 1))]
        return register(m, self.write & last)


class Gearbox(wiring.Component):
    """Lines to beats, the first byte lowest; each request begins at a line of its own.

    Lines go to two places in turn, a beat is cut out of both at a byte offset, into a register: so neither handshake
    reaches the shifter, the slowest part.

    Members: requests, {lines, beats} in the order of the lines; lines and beats, streams.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._line, self._beat = line_words(parameters) * parameters.port_bytes, parameters.beat_bytes
        layout = data.StructLayout({"lines": _line_bits(parameters), "beats": BEAT_BITS})
        super().__init__(
            {
                "requests": In(stream.Signature(layout)),
                "lines": In(stream.Signature(8 * self._line)),
                "beats": Out(stream.Signature(8 * self._beat)),
            }
        )
        self._taken, self._cut = Signal(), Signal()  # a line comes; a beat leaves the two places
        self._one = Signal()  # the beat at hand is the last one: what is left behind it is dropped

    def elaborate(self, platform: object) -> Module:
        m = Module()
        more, (whole, room) = self._count(m), self._fill(m)
        m.d.comb += [
            self._cut.eq(whole & (~self.beats.valid | self.beats.ready)),
            self.lines.ready.eq(more & room),
            self._taken.eq(self.lines.valid & self.lines.ready),
        ]
        self._shift(m)
        return m

    def _count(self, m: Module) -> Value:
        """Take a request when the one before is through, count its lines and beats; whether lines are to come."""
        request, idle, more = self.requests.payload, Signal(init=1), Signal()
        lines, beats = Signal.like(request.lines), Signal.like(request.beats)
        begun = self.requests.valid & idle
        m.d.comb += self.requests.ready.eq(idle)
        with m.If(begun | self._taken):
            m.d.sync += [lines.eq(Mux(begun, request.lines, lines - 1)), more.eq(begun | (lines != 1))]
        with m.If(begun | self._cut):
            m.d.sync += [
                beats.eq(Mux(begun, request.beats, beats - 1)),
                self._one.eq(Mux(begun, request.beats == 1, beats == 2)),
                idle.eq(~begun & self._one),
            ]
        return more

    def _fill(self, m: Module) -> tuple[Value, Value]:
        """Follow the bytes that the two places hold; whether that is a beat, and whether a line has room."""
        held = Signal(range(2 * self._line + 1))
        less, coming = Signal.like(held), Signal.like(held)  # held without a beat; held a cycle later
        whole, fits, fits_then = Signal(), Signal(init=1), Signal()  # a beat; a line beside it; a line behind it
        m.d.comb += coming.eq(Mux(self._cut, Mux(self._one, 0, less), held) + Mux(self._taken, self._line, 0))
        m.d.sync += [
            held.eq(coming),
            less.eq(coming - self._beat),
            whole.eq(coming >= self._beat),
            fits.eq(coming <= self._line),
            fits_then.eq(coming <= self._line + self._beat),
        ]
        return whole, Mux(self._cut, fits_then, fits)

    def _shift(self, m: Module) -> None:
        """Lines into the places, bytes from `offset` on into the register."""
        places = [Signal.like(self.lines.payload) for _ in range(2)]
        turn, offset = Signal(), Signal(range(2 * self._line))
        for number, place in enumerate(places):
            with m.If(self._taken & (turn == number)):
                m.d.sync += place.eq(self.lines.payload)
        m.d.sync += [
            turn.eq(turn ^ self._taken),
            self.beats.valid.eq(self._cut | (self.beats.valid & ~self.beats.ready)),
        ]
        with m.If(self._cut):
            m.d.sync += [
                self.beats.payload.eq(self._from(offset, Cat(*places, *places))),
                offset.eq(offset + self._beat),
            ]
            with m.If(self._one):
                m.d.sync += [turn.eq(0), offset.eq(0)]

    def _from(self, offset: Signal, content: Value) -> Value:
        """The beat at a byte offset; the longest shift first, so that each next one has less to move."""
        for bit in reversed(range(len(offset))):
            width = 8 * ((1 << bit) + self._beat - 1)
            content = Mux(offset[bit], content[8 << bit :][:width], content[:width])
        return content


class Skid(wiring.Component):
    """Two places between streams, so that neither side's handshake waits for the other's in the same cycle.

    Members: enters and leaves, streams of `width` bits.
    """

    def __init__(self, width: int) -> None:
        super().__init__({"enters": In(stream.Signature(width)), "leaves": Out(stream.Signature(width))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        spare, full = Signal.like(self.enters.payload), Signal()
        m.d.comb += self.enters.ready.eq(~full)
        with m.If(self.leaves.ready | ~self.leaves.valid):
            m.d.sync += [
                self.leaves.valid.eq(full | self.enters.valid),
                self.leaves.payload.eq(Mux(full, spare, self.enters.payload)),
                full.eq(0),
            ]
        with m.Elif(self.enters.valid & ~full):
            m.d.sync += [spare.eq(self.enters.payload), full.eq(1)]
        return m


class WeightStream(wiring.Component):
    """Requests in, beats out, the memory port between; all that a core has of its weights.

    Members: requests (REQUEST), at least QUEUED wait; addresses out and, in their order, data with data_valid in;
    beats, a stream of B bytes.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        super().__init__(
            {
                "requests": In(stream.Signature(REQUEST)),
                "addresses": Out(stream.Signature(ADDRESS_BITS)),
                "data": In(8 * parameters.port_bytes),
                "data_valid": In(1),
                "beats": Out(stream.Signature(8 * parameters.beat_bytes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p = self._parameters
        m.submodules.fetcher = fetcher = Fetcher(p)
        m.submodules.buffer = buffer = WordBuffer(8 * p.port_bytes, line_words(p), p.buffer_words // line_words(p))
        m.submodules.gearbox = gearbox = Gearbox(p)
        wiring.connect(m, wiring.flipped(self.addresses), fetcher.addresses)
        wiring.connect(m, buffer.lines, gearbox.lines)
        m.submodules.skid = skid = Skid(8 * p.beat_bytes)
        wiring.connect(m, gearbox.beats, skid.enters)
        wiring.connect(m, wiring.flipped(self.beats), skid.leaves)
        m.d.comb += [
            buffer.write.eq(self.data_valid),
            buffer.write_data.eq(self.data),
            fetcher.taken.eq(buffer.lines.valid & buffer.lines.ready),
        ]
        self._queue(m, fetcher, gearbox)
        return m

    def _queue(self, m: Module, fetcher: Fetcher, gearbox: Gearbox) -> None:
        """Count a request's lines once, then let the fetcher and the gearbox each take it when it can."""
        p = self._parameters
        line = line_words(p) * p.port_bytes
        address, beats = register(m, self.requests.payload.address), register(m, self.requests.payload.beats)
        size = register(m, _times(beats, p.beat_bytes)) + (line - 1)
        lines = register(m, (size // line)[: _line_bits(p)])
        m.submodules.ahead = ahead = fifo.SyncFIFO(width=len(fetcher.requests.payload.as_value()), depth=QUEUED)
        m.submodules.behind = behind = fifo.SyncFIFO(width=len(gearbox.requests.payload.as_value()), depth=QUEUED)
        room = ahead.w_rdy & behind.w_rdy
        waited = Signal(2)  # cycles that this request has held still, up to 3
        counted = waited.all()
        m.d.sync += waited.eq(Mux(self.requests.valid & ~self.requests.ready, Mux(counted, waited, waited + 1), 0))
        m.d.comb += [
            self.requests.ready.eq(counted & room),
            ahead.w_en.eq(self.requests.ready & self.requests.valid),
            behind.w_en.eq(ahead.w_en),
            ahead.w_data.eq(Cat(address, lines)),
            behind.w_data.eq(Cat(lines, beats)),
        ]
        for queue, unit in ((ahead, fetcher), (behind, gearbox)):
            m.d.comb += [
                unit.requests.valid.eq(queue.r_rdy),
                unit.requests.payload.eq(queue.r_data),
                queue.r_en.eq(unit.requests.ready),
            ]

"""The weight stream: requests in, port words ahead of time into a buffer, whole beats out.

Fetcher asks for every word as soon as the buffer has a place for it, so the answers need no back-pressure; WordBuffer is
that buffer, in block RAM; Gearbox cuts the words of each request into beats and drops the rest of its last word.
"""

# P bytes of a port word, B bytes of a beat

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.memory import BlockRam
from unmul.gateware.parameters import Parameters
from unmul.gateware.pipeline import register

__all__ = ["ADDRESS_BITS", "REQUEST", "Fetcher", "Gearbox", "WeightStream", "WordBuffer"]

ADDRESS_BITS = 32  # of a port word
BEAT_BITS = 26  # beats of one request
QUEUED = 4  # requests that may wait

REQUEST = data.StructLayout({"address": ADDRESS_BITS, "beats": BEAT_BITS})


def _word_bits(parameters: Parameters) -> int:
    return (parameters.words((1 << BEAT_BITS) - 1)).bit_length()


class Fetcher(wiring.Component):
    """Turns a request of words into one address a word, never more than the buffer has room for.

    Members: requests, {address, words}; addresses, a stream; taken, a word left the buffer.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._room = parameters.buffer_words
        layout = data.StructLayout({"address": ADDRESS_BITS, "words": _word_bits(parameters)})
        super().__init__(
            {"requests": In(stream.Signature(layout)), "addresses": Out(stream.Signature(ADDRESS_BITS)), "taken": In(1)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        room = Signal(range(self._room + 1), init=self._room)
        left = Signal.like(self.requests.payload.words)
        asked = Signal()
        m.d.comb += [
            self.addresses.valid.eq(left.any() & room.any()),
            asked.eq(self.addresses.valid & self.addresses.ready),
            self.requests.ready.eq(~left.any()),
        ]
        m.d.sync += room.eq(room + self.taken - asked)
        with m.If(asked):
            m.d.sync += [left.eq(left - 1), self.addresses.payload.eq(self.addresses.payload + 1)]
        with m.If(self.requests.ready & self.requests.valid):
            m.d.sync += [left.eq(self.requests.payload.words), self.addresses.payload.eq(self.requests.payload.address)]
        return m


class WordBuffer(wiring.Component):
    """First in, first out in block RAM; whoever writes has reserved a place, so there is no ready at the input.

    Members: write, write_data; words, a stream.
    """

    def __init__(self, width: int, depth: int) -> None:
        self._width, self._depth = width, depth
        super().__init__({"write": In(1), "write_data": In(width), "words": Out(stream.Signature(width))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.ram = ram = BlockRam(self._width, self._depth)
        held = Signal(range(self._depth + 1))
        m.d.comb += [
            ram.write_enable.eq(self.write),
            ram.write_data.eq(self.write_data),
            ram.read_enable.eq(held.any() & (~self.words.valid | self.words.ready)),
            self.words.payload.eq(ram.read_data),
        ]
        m.d.sync += held.eq(held + self.write - ram.read_enable)
        for moved, address in ((self.write, ram.write_address), (ram.read_enable, ram.read_address)):
            place = Signal.like(address)
            m.d.comb += address.eq(place)
            with m.If(moved):
                m.d.sync += place.eq(Mux(place == self._depth - 1, 0, place + 1))
        with m.If(ram.read_enable | self.words.ready):
            m.d.sync += self.words.valid.eq(ram.read_enable)
        return m


class Gearbox(wiring.Component):
    """Words of P bytes to beats of B bytes, the first byte lowest; each request begins at a word of its own.

    Members: requests, {words, beats} in the order of the words; words and beats, streams.
    """

    def __init__(self, parameters: Parameters) -> None:
        self._word, self._beat = parameters.port_bytes, parameters.beat_bytes
        layout = data.StructLayout({"words": _word_bits(parameters), "beats": BEAT_BITS})
        super().__init__(
            {
                "requests": In(stream.Signature(layout)),
                "words": In(stream.Signature(8 * self._word)),
                "beats": Out(stream.Signature(8 * self._beat)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words, beats = Signal.like(self.requests.payload.words), Signal(BEAT_BITS)
        held = Signal(range(self._word + self._beat + 1))  # bytes
        buffer = Signal(8 * (self._word + self._beat))  # zero from byte `held` on
        sent, last, taken = Signal(), Signal(), Signal()
        after = Signal.like(held)
        m.d.comb += [
            self.beats.valid.eq((held >= self._beat) & beats.any()),
            self.beats.payload.eq(buffer),
            sent.eq(self.beats.valid & self.beats.ready),
            last.eq(sent & (beats == 1)),
            after.eq(Mux(last, 0, Mux(sent, held - self._beat, held))),
            self.words.ready.eq((after <= self._beat) & words.any()),
            taken.eq(self.words.valid & self.words.ready),
            self.requests.ready.eq(~beats.any()),
        ]
        kept = Mux(last, 0, Mux(sent, buffer >> 8 * self._beat, buffer))
        added = self.words.payload & taken.replicate(8 * self._word)
        m.d.sync += [
            held.eq(after + Mux(taken, self._word, 0)),
            buffer.eq(kept | (added << Cat(Const(0, 3), after[: self._beat.bit_length()]))),
            words.eq(words - taken),
            beats.eq(beats - sent),
        ]
        with m.If(self.requests.ready & self.requests.valid):
            m.d.sync += [words.eq(self.requests.payload.words), beats.eq(self.requests.payload.beats)]
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
        m.submodules.buffer = buffer = WordBuffer(8 * p.port_bytes, p.buffer_words)
        m.submodules.gearbox = gearbox = Gearbox(p)
        wiring.connect(m, wiring.flipped(self.addresses), fetcher.addresses)
        wiring.connect(m, buffer.words, gearbox.words)
        wiring.connect(m, wiring.flipped(self.beats), gearbox.beats)
        m.d.comb += [
            buffer.write.eq(self.data_valid),
            buffer.write_data.eq(self.data),
            fetcher.taken.eq(buffer.words.valid & buffer.words.ready),
        ]
        self._queue(m, fetcher, gearbox)
        return m

    def _queue(self, m: Module, fetcher: Fetcher, gearbox: Gearbox) -> None:
        """Count a request's words once, then let the fetcher and the gearbox each take it when it can."""
        p = self._parameters
        size = register(m, self.requests.payload.beats * p.beat_bytes + (p.port_bytes - 1))
        words = size // p.port_bytes
        counted = Signal()
        m.submodules.ahead = ahead = fifo.SyncFIFO(width=len(fetcher.requests.payload.as_value()), depth=QUEUED)
        m.submodules.behind = behind = fifo.SyncFIFO(width=len(gearbox.requests.payload.as_value()), depth=QUEUED)
        room = ahead.w_rdy & behind.w_rdy
        m.d.sync += counted.eq(self.requests.valid & ~self.requests.ready)
        m.d.comb += [
            self.requests.ready.eq(counted & room),
            ahead.w_en.eq(self.requests.ready & self.requests.valid),
            behind.w_en.eq(ahead.w_en),
            ahead.w_data.eq(Cat(self.requests.payload.address, words[: _word_bits(p)])),
            behind.w_data.eq(Cat(words[: _word_bits(p)], self.requests.payload.beats)),
        ]
        for queue, unit in ((ahead, fetcher), (behind, gearbox)):
            m.d.comb += [
                unit.requests.valid.eq(queue.r_rdy),
                unit.requests.payload.eq(queue.r_data),
                queue.r_en.eq(unit.requests.ready),
            ]

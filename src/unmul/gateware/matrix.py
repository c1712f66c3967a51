"""The stream unit's arithmetic: beats of ternary codes times a quantised register, scaled, row after row."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.dot import DotUnit
from unmul.gateware.operation import ELEMENT, SCALAR
from unmul.gateware.pipeline import PRODUCT_LATENCY, RESCALE_LATENCY, WIDE, delay, product, register, rescale, saturate
from unmul.gateware.trit import TritDecoder
from unmul.gateware.vectors import READ_LATENCY
from unmul.ternary import TRITS_PER_BYTE

__all__ = ["MatrixPipeline"]

Q_LATENCY = 2  # block RAM and a register behind it: the slowest path of the core otherwise
SCALE_LATENCY = PRODUCT_LATENCY + RESCALE_LATENCY


class MatrixPipeline(wiring.Component):
    """A beat a cycle in, a scaled and saturated row out `latency` cycles after its last beat.

    Members: valid, first, last and beat, a beat's codes and its place in the row; codes, the int8 row of the quantised
    register, one cycle after its beat; scale, still meanwhile; addend_next, the row whose addend must be there
    READ_LATENCY cycles later; addend; row, result, clipped of the row that is done.
    """

    def __init__(self, lanes: int, beat_bytes: int) -> None:
        self._lanes, self._dot = lanes, DotUnit(lanes)
        self.latency = Q_LATENCY + self._dot.latency + SCALE_LATENCY + 2
        super().__init__(
            {
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "beat": In(8 * beat_bytes),
                "codes": In(8 * lanes),
                "scale": In(SCALAR),
                "addend_next": Out(1),
                "addend": In(ELEMENT),
                "done": Out(1),
                "result": Out(ELEMENT),
                "clipped": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dot = dot = self._dot
        self._decode(m, register(m, self.beat), dot)
        m.d.comb += [
            dot.q.eq(register(m, self.codes)),
            dot.valid.eq(delay(m, self.valid, Q_LATENCY)),
            dot.first.eq(delay(m, self.first, Q_LATENCY)),
            dot.last.eq(delay(m, self.last, Q_LATENCY)),
        ]
        wide = Signal(WIDE)
        m.d.comb += wide.eq(product(m, dot.sum, self.scale.mantissa))
        scaled = rescale(m, wide, self.scale.exponent)
        result, clipped = saturate(m, register(m, scaled + register(m, self.addend)))
        m.d.comb += [
            self.addend_next.eq(delay(m, dot.done, SCALE_LATENCY - READ_LATENCY - 1)),
            self.done.eq(delay(m, dot.done, SCALE_LATENCY + 2)),
            self.result.eq(result),
            self.clipped.eq(clipped & self.done),
        ]
        return m

    def _decode(self, m: Module, beat: Signal, dot: DotUnit) -> None:
        """Trits of the lanes; those of the last byte that have no lane are dropped."""
        for number in range(len(beat) // 8):
            decoder = TritDecoder()
            m.submodules[f"trits{number}"] = decoder
            m.d.comb += decoder.packed.eq(beat[8 * number : 8 * number + 8])
            for place, trit in enumerate(decoder.trits):
                lane = number * TRITS_PER_BYTE + place
                if lane < self._lanes:
                    m.d.sync += dot.trits[lane].eq(trit)

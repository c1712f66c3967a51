"""Registered arithmetic: functions that add stages to a module and return the value that comes out of the last one.

Each is fully pipelined, one operand a cycle, with a fixed latency; their twins are the operators of Python and the
functions of units.py. Registers have no reset: what marks a value as valid travels beside it, through `delay`.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

__all__ = [
    "PRODUCT_LATENCY",
    "RESCALE_LATENCY",
    "WIDE",
    "bit_length",
    "delay",
    "magnitude",
    "product",
    "register",
    "rescale",
    "saturate",
    "shift_right",
]

PRODUCT_LATENCY = 3  # partial products, rows, total
RESCALE_LATENCY = 4  # three shifts by up to 3, 12 and 48 places, then the rounding
WIDE = signed(52)  # of what rescale takes and gives
_CHUNK = 17  # bits of an operand that a signed 18-bit multiplier takes
_TOO_LARGE = 1 << 50  # no int32 added to it brings it back into range


def register(m: Module, value: Value) -> Signal:
    """value, one cycle later."""
    held = Signal(value.shape(), reset_less=True)
    m.d.sync += held.eq(value)
    return held


def delay(m: Module, value: Value, cycles: int) -> Value:
    """value, some cycles later."""
    for _ in range(cycles):
        value = register(m, value)
    return value


def product(m: Module, a: Value, b: Value) -> Signal:
    """a * b of up to 34 bits each, from 18-bit signed multipliers; PRODUCT_LATENCY."""
    rows = []
    for chunk in _chunks(a):
        parts = [register(m, chunk * other) for other in _chunks(b)]
        rows.append(register(m, _weighted(parts)))
    return register(m, _weighted(rows))


def shift_right(m: Module, value: Value, amount: Value) -> Value:
    """value >> amount, arithmetic, two bits of amount a stage; amount must hold still while values pass."""
    for low in range(0, len(amount), 2):
        step = Cat(Const(0, low), amount[low : low + 2]) if low else amount[:2]
        value = register(m, value >> step)
    return value


def rescale(m: Module, value: Value, exponent: Value) -> Signal:
    """value * 2^exponent rounded, WIDE to WIDE; RESCALE_LATENCY. exponent must hold still: see units.rescale."""
    down, over = Signal(6), Signal()
    m.d.sync += [down.eq(Mux(exponent < -63, 63, -exponent)), over.eq(exponent > 0)]
    limit = Mux(value == 0, 0, Mux(value < 0, -_TOO_LARGE, _TOO_LARGE))
    shifted = shift_right(m, Cat(Const(0, 1), value).as_signed(), down)
    rounded = Mux(over, delay(m, limit, RESCALE_LATENCY - 1), (shifted >> 1) + shifted[0])
    result = Signal(WIDE, reset_less=True)
    m.d.sync += result.eq(rounded)
    return result


def saturate(m: Module, value: Value) -> tuple[Signal, Signal]:
    """value clipped to int32, and whether it was clipped, one cycle later."""
    result, clipped = Signal(signed(32), reset_less=True), Signal(reset_less=True)
    sign, high = value[-1], value[31:]
    outside = high.any() & ~high.all()
    m.d.sync += [
        clipped.eq(outside),
        result.eq(Mux(outside, Cat((~sign).replicate(31), sign), value[:32]).as_signed()),
    ]
    return result, clipped


def magnitude(value: Value) -> Value:
    """|value|, combinational, as wide as value."""
    sign = value[-1]
    return ((value ^ sign.replicate(len(value))) + sign)[: len(value)]


def bit_length(m: Module, value: Value) -> Value:
    """Bits up to the highest one of an unsigned value, one cycle later."""
    half = 1 << (len(value) - 1).bit_length() - 1
    upper = value[half:].any()
    rest = _bit_length(register(m, Mux(upper, value[half:], value[:half])))
    return Mux(register(m, upper), half + rest, rest)


def _bit_length(value: Value) -> Value:
    if len(value) == 1:
        return value
    half = 1 << (len(value) - 1).bit_length() - 1
    return Mux(value[half:].any(), half + _bit_length(value[half:]), _bit_length(value[:half]))


def _chunks(value: Value) -> list[Value]:
    """17-bit pieces as signed 18-bit numbers, the lowest first; the last one carries the sign."""
    if not value.shape().signed:
        value = Cat(value, Const(0, 1)).as_signed()
    starts = range(0, max(len(value) - 1, 1), _CHUNK)
    pieces = [Cat(value[start : start + _CHUNK], Const(0, 1)).as_signed() for start in starts[:-1]]
    return [*pieces, value[starts[-1] :].as_signed()]


def _weighted(parts: list[Value]) -> Value:
    total = parts[0]
    for place, part in enumerate(parts[1:], 1):
        total = total + (part << _CHUNK * place)
    return total

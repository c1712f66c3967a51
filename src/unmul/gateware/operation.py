"""What the sequencer hands to a unit: an instruction's fields with the values that it reads, cut from the one table."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable

from amaranth.hdl import Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.isa import FIELDS, INSTRUCTIONS
from unmul.gateware.scalar import MANTISSA_BITS

__all__ = ["ELEMENT", "OPERATION", "PLAIN", "SCALAR", "UnitPort", "VectorAccess", "either", "field", "is_one_of"]

ELEMENT = signed(32)  # of a vector register
EXPONENT = signed(12)  # two bits more than an instruction can write: room for products
SCALAR = data.StructLayout({"mantissa": MANTISSA_BITS, "exponent": EXPONENT})

PLAIN = ("opcode", "vd", "qd", "sd", "va", "qa", "vb", "add", "count", "beats")
OPERATION = data.StructLayout(
    {
        **{name: FIELDS[name].width for name in PLAIN},
        "place": FIELDS["base"].width,  # state value of element 0
        "sa": SCALAR,
        "sb": SCALAR,
        "scale": SCALAR,  # of qa
        "top": 5,  # of va
    }
)


def field(word: Value, name: str) -> Value:
    """The bits of an instruction word that hold a field."""
    place = FIELDS[name]
    bits = word[place.low : place.low + place.width]
    return bits.as_signed() if place.signed else bits


def is_one_of(opcode: Value, *names: str) -> Value:
    """Whether an opcode is that of one of the instructions."""
    return either([opcode == INSTRUCTIONS[name].opcode for name in names])


def either(values: Iterable[Value]) -> Value:
    """The OR of values, bit by bit."""
    return functools.reduce(operator.or_, values)


class UnitPort(wiring.Signature):
    """How the sequencer runs a unit, as the unit's own member.

    Members: operation, still from start to done; start, one cycle; done, one cycle, all results are in their places.
    """

    def __init__(self) -> None:
        super().__init__({"operation": In(OPERATION), "start": In(1), "done": Out(1)})


class VectorAccess(wiring.Signature):
    """A unit's access to the vector registers of its operation, as the unit's own member.

    Members: read_address; a and b, elements of va and vb there, vectors.READ_LATENCY cycles later; write,
    write_address, write_data of vd; clipped, the element written was saturated.
    """

    def __init__(self, depth: int) -> None:
        address = (depth - 1).bit_length()
        super().__init__(
            {
                "read_address": Out(address),
                "a": In(ELEMENT),
                "b": In(ELEMENT),
                "write": Out(1),
                "write_address": Out(address),
                "write_data": Out(ELEMENT),
                "clipped": Out(1),
            }
        )

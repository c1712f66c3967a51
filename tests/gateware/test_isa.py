"""The one table: words, listings and the documentation page agree with it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmul.errors import GatewareError
from unmul.gateware import isa

DOCS = Path(__file__).parents[2] / "docs"


@st.composite
def operations(draw):
    name = draw(st.sampled_from(sorted(isa.INSTRUCTIONS)))
    fields = {field: isa.FIELDS[field].bounds for field in isa.INSTRUCTIONS[name].fields}
    values = {field: draw(st.integers(bounds.start, bounds.stop - 1)) for field, bounds in fields.items()}
    return isa.Operation(name, values, draw(st.booleans()))


@given(st.lists(operations()))
def test_a_program_survives_its_listing_and_its_image(program):
    assert isa.assemble(isa.disassemble(program)) == program
    assert isa.read_program(isa.write_program(program)) == program


@pytest.mark.parametrize("name", isa.INSTRUCTIONS)
def test_the_fields_of_an_instruction_do_not_overlap_and_end_within_the_word(name):
    used = ["opcode", "decode", *isa.INSTRUCTIONS[name].fields]
    bits = [
        bit for field in used for bit in range(isa.FIELDS[field].low, isa.FIELDS[field].low + isa.FIELDS[field].width)
    ]
    assert len(bits) == len(set(bits))
    assert max(bits) < 8 * isa.WORD_BYTES


def test_opcodes_are_told_apart():
    assert len(isa.MNEMONICS) == len(isa.INSTRUCTIONS)


def test_the_documentation_page_is_the_table():
    assert (DOCS / "isa.md").read_text("utf-8") == isa.page()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("tmatmull v1", "'tmatmull' is no instruction"),
        ("silu v1, v2", "has 2 operands"),
        ("silu v1, q2, count=4", "operand 'q2' is no va"),
        ("silu v1, v2, 4", "operand '4' is no count"),
        ("silu v8, v2, count=4", "operand 'v8' is no vd: write v0 to v7"),
        ("loop count=65536", "operand 'count=65536' is no count"),
        ("loop count=0x" + 4000 * "f", "operand 'count=0xf{32}' is no count"),
    ],
)
def test_a_wrong_line_is_named(line, problem):
    with pytest.raises(GatewareError, match=problem):
        isa.assemble(line)


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        (isa.Operation("silu", {"vd": 8, "va": 0, "count": 1}), "vd 8 does not fit its 3 bits"),
        (isa.Operation("silu", {"vd": 1, "va": 0}), "silu has vd, va"),
        (isa.Operation("nop", {}), "'nop' is no instruction"),
    ],
)
def test_what_has_no_word_is_refused(operation, problem):
    with pytest.raises(GatewareError, match=problem):
        isa.encode(operation)


@pytest.mark.parametrize(("word", "problem"), [(31, "opcode 31"), (1 << 63, "bits that halt does not use")])
def test_a_word_that_is_no_instruction_is_refused(word, problem):
    with pytest.raises(GatewareError, match=problem):
        isa.decode(word)


def test_a_program_that_is_cut_off_is_refused():
    with pytest.raises(GatewareError, match="7 bytes is cut off"):
        isa.read_program(bytes(7))

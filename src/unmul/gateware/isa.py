"""The instruction set: ONE table, from which encoder, decoder, assembler, disassembler and docs/isa.md derive.

An instruction is one 64-bit word, little-endian in files. A field has one place in every word that has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from unmul.errors import GatewareError

__all__ = [
    "FIELDS",
    "INSTRUCTIONS",
    "MNEMONICS",
    "WORD_BYTES",
    "Field",
    "Instruction",
    "Operation",
    "assemble",
    "decode",
    "disassemble",
    "encode",
    "page",
    "read_program",
    "write_program",
]

WORD_BYTES = 8


@dataclass(frozen=True, slots=True)
class Field:
    """A bit range of the instruction word; how it is written ("v3", "q0", "s1", a number, a bare flag) and why."""

    low: int
    width: int
    prefix: str = ""  # of a register's name
    signed: bool = False
    meaning: str = ""

    @property
    def bounds(self) -> range:
        """Values that the field can hold."""
        half = 1 << self.width - 1
        return range(-half, half) if self.signed else range(1 << self.width)


FIELDS = {
    "opcode": Field(0, 5, meaning="which instruction"),
    "decode": Field(5, 1, meaning="skipped when the host asks for prefill, that is for the state alone"),
    # registers
    "vd": Field(6, 3, "v", meaning="vector register written"),
    "qd": Field(6, 2, "q", meaning="quantised register written, with its scale"),
    "sd": Field(6, 3, "s", meaning="scalar register written"),
    "va": Field(9, 3, "v", meaning="vector register read"),
    "qa": Field(9, 2, "q", meaning="quantised register read, with its scale"),
    "vb": Field(12, 3, "v", meaning="second vector register read"),
    "sa": Field(15, 3, "s", meaning="scalar register read"),
    "sb": Field(18, 3, "s", meaning="second scalar register read"),
    # how much
    "add": Field(21, 1, meaning="add to what vd holds"),
    "count": Field(24, 16, meaning="elements, rows, or repetitions"),
    "beats": Field(40, 12, meaning="beats of one row: ceil(columns / lanes)"),
    # state
    "base": Field(40, 20, meaning="state value at loop counter 0; the stride is count"),
    # scalar constants
    "mantissa": Field(24, 16, meaning="0, or 2^15 to 2^16 - 1"),
    "exponent": Field(40, 10, signed=True, meaning="value = mantissa * 2^exponent"),
    # memory
    "length": Field(6, 26, meaning="beats of the stream"),
    "stride": Field(6, 14, meaning="port words from one row to the next"),
    "row_beats": Field(20, 12, meaning="beats of one row"),
    "address": Field(32, 32, meaning="first port word"),
}


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of the table: number, unit that runs it, fields in the order of the assembly line, and what it does."""

    opcode: int
    unit: str  # control | stream | norm | row
    fields: tuple[str, ...]
    does: str

    @property
    def flags(self) -> tuple[str, ...]:
        """Fields of one bit, written as bare words at the end of a line."""
        return (*(name for name in self.fields if FIELDS[name].width == 1), "decode")

    @property
    def operands(self) -> tuple[str, ...]:
        """Fields that are written with their value."""
        return tuple(name for name in self.fields if FIELDS[name].width > 1)


INSTRUCTIONS = {
    "halt": Instruction(0, "control", (), "Wait until every unit is idle, then end the token."),
    "set": Instruction(1, "control", ("sd", "mantissa", "exponent"), "sd = mantissa * 2^exponent"),
    "loop": Instruction(
        2, "control", ("count",), "Start a loop: the loop counter is 0, `next` comes back behind here."
    ),
    "next": Instruction(3, "control", (), "Add 1 to the loop counter; below count go on behind `loop`, else here."),
    "stream": Instruction(
        4,
        "control",
        ("address", "length"),
        "Queue a stream of `length` beats from `address`: prefetched at once, taken by stream instructions in order.",
    ),
    "embed": Instruction(
        5,
        "control",
        ("address", "stride", "row_beats"),
        "Queue the stream of the token's row: `row_beats` beats from `address + token * stride`.",
    ),
    "load": Instruction(
        8, "stream", ("vd", "count"), "vd[j] = the stream's next 16-bit elements, sign-extended; takes whole beats."
    ),
    "scale": Instruction(
        9, "stream", ("sd",), "sd = the scalar in the stream's next beat: mantissa u16, exponent i16, rest ignored."
    ),
    "tmatmul": Instruction(
        10,
        "stream",
        ("vd", "qa", "sa", "count", "beats", "add"),
        "vd[n] = round(sum(qa * row n) * scale(qa) * sa) for `count` rows of `beats` beats; with `add` on top of vd.",
    ),
    "thead": Instruction(
        11,
        "stream",
        ("qa", "sa", "count", "beats"),
        "As tmatmul, but row by row to the logit port; the token of the first largest is kept.",
    ),
    "norm": Instruction(
        16,
        "norm",
        ("vd", "va", "vb", "sa", "sb", "count"),
        "vd = va * vb * sb * rsqrt(sum(va^2) + sa): RMSNorm; sa = n*eps and sb = sqrt(n) in their units.",
    ),
    "quant": Instruction(
        17,
        "norm",
        ("qd", "va", "vb", "sa", "sb", "count"),
        "u = va * vb; qd = round(u * 127 / max|u|); scale(qd) = max|u| * sb * rsqrt(sum(va^2) + sa).",
    ),
    "silu": Instruction(24, "row", ("vd", "va", "count"), "vd = va * sigmoid(va)"),
    "gate": Instruction(25, "row", ("vd", "va", "vb", "count"), "vd = vb * sigmoid(-va); vb has 15 fraction bits."),
    "scan": Instruction(
        26,
        "row",
        ("vd", "va", "vb", "count", "base"),
        "h = state[base + loop * count + j]; h += vb * (va - h); state = vd = h. The first token finds h = 0.",
    ),
    "mul": Instruction(27, "row", ("vd", "va", "vb", "count"), "vd = va * vb"),
}

MNEMONICS = {instruction.opcode: name for name, instruction in INSTRUCTIONS.items()}


@dataclass(frozen=True, slots=True)
class Operation:
    """One decoded instruction: its name, its fields, and whether prefill skips it."""

    name: str
    values: Mapping[str, int]
    decode: bool = False

    def __getitem__(self, field: str) -> int:
        return self.values[field]

    @property
    def unit(self) -> str:
        """The unit that runs it."""
        return INSTRUCTIONS[self.name].unit


def encode(operation: Operation) -> int:
    """The 64-bit word of an operation; unused bits are 0.

    Raises:
        GatewareError: unknown name, missing or left-over field, or a value that the field cannot hold.
    """
    instruction = _instruction(operation.name)
    if set(operation.values) != set(instruction.fields):
        wanted = ", ".join(instruction.fields) or "no fields"
        raise GatewareError(f"{operation.name} has {', '.join(operation.values) or 'no fields'}", f"give {wanted}")
    word = instruction.opcode | operation.decode << FIELDS["decode"].low
    for name, value in operation.values.items():
        word |= _bits(name, value) << FIELDS[name].low
    return word


def decode(word: int) -> Operation:
    """The operation of a 64-bit word; the inverse of encode.

    Raises:
        GatewareError: no such opcode, or bits set that the instruction does not use.
    """
    opcode = _extract(word, FIELDS["opcode"])
    if opcode not in MNEMONICS:
        raise GatewareError(f"word {word:#018x} has opcode {opcode}, which is none", "compile the model again")
    name = MNEMONICS[opcode]
    values = {field: _extract(word, FIELDS[field]) for field in INSTRUCTIONS[name].fields}
    operation = Operation(name, values, bool(_extract(word, FIELDS["decode"])))
    if encode(operation) != word:
        raise GatewareError(f"word {word:#018x} has bits that {name} does not use", "compile the model again")
    return operation


def assemble(text: str) -> list[Operation]:
    """Operations of a listing, one a line: `name value, value, field=value flag`, `;` begins a comment.

    Raises:
        GatewareError: a line that is no instruction, or a value that its field cannot hold.
    """
    lines = (line.partition(";")[0].split() for line in text.replace(",", " ").splitlines())
    return [_parse(words) for words in lines if words]


def disassemble(program: Iterable[Operation]) -> str:
    """The listing of a program, indented inside loops; the inverse of assemble."""
    return "".join(_lines(program))


def write_program(program: Iterable[Operation]) -> bytes:
    """The program image: 8 bytes an instruction, little-endian."""
    return b"".join(encode(operation).to_bytes(WORD_BYTES, "little") for operation in program)


def read_program(image: bytes) -> list[Operation]:
    """Operations of a program image; the inverse of write_program."""
    if len(image) % WORD_BYTES:
        raise GatewareError(f"a program of {len(image)} bytes is cut off", "compile the model again")
    words = (image[start : start + WORD_BYTES] for start in range(0, len(image), WORD_BYTES))
    return [decode(int.from_bytes(word, "little")) for word in words]


def page() -> str:
    """docs/isa.md."""
    return "\n".join(
        [
            "# The accelerator's instructions",
            "",
            "Written by `python -m unmul.gateware.isa` from the one table in `src/unmul/gateware/isa.py`; do not edit.",
            "What the arithmetic is, to the bit, is in [hardware.md](hardware.md).",
            "",
            "| opcode | unit | line | does |",
            "|---|---|---|---|",
            *(f"| {each.opcode} | {each.unit} | `{_form(name)}` | {each.does.replace('|', chr(92) + '|')} |"
              for name, each in INSTRUCTIONS.items()),
            "",
            "Every line may end in `decode`. A word has 64 bits, unused ones 0:",
            "",
            "| field | bits | written | meaning |",
            "|---|---|---|---|",
            *(f"| {name} | {each.low + each.width - 1}:{each.low} | {_written(name)} | {each.meaning} |"
              for name, each in FIELDS.items()),
            "",
        ]
    )  # fmt: skip


def _instruction(name: str) -> Instruction:
    if name not in INSTRUCTIONS:
        raise GatewareError(f"{name!r} is no instruction", f"write one of {', '.join(INSTRUCTIONS)}")
    return INSTRUCTIONS[name]


def _bits(name: str, value: int) -> int:
    field = FIELDS[name]
    if value not in field.bounds:
        limits = f"{field.bounds.start} to {field.bounds.stop - 1}"
        raise GatewareError(f"{name} {value!r} does not fit its {field.width} bits", f"choose {limits}")
    return value & (1 << field.width) - 1


def _extract(word: int, field: Field) -> int:
    bits = word >> field.low & (1 << field.width) - 1
    return bits - (1 << field.width) if field.signed and bits >> field.width - 1 else bits


def _parse(words: list[str]) -> Operation:
    name, *rest = words
    instruction = _instruction(name)
    flags = {word for word in rest if word in instruction.flags}
    written = [word for word in rest if word not in instruction.flags]
    if len(written) != len(instruction.operands):
        raise GatewareError(f"line {' '.join(words)!r} has {len(written)} operands", f"write {_form(name)}")
    values = {field: _number(field, word) for field, word in zip(instruction.operands, written, strict=True)}
    values |= {field: int(field in flags) for field in instruction.flags if field != "decode"}
    return Operation(name, values, "decode" in flags)


def _number(field: str, word: str) -> int:
    """The value that an operand gives to a field, in any base that Python writes."""
    prefix = FIELDS[field].prefix or f"{field}="
    try:
        value = int(word.removeprefix(prefix), 0) if word.startswith(prefix) else None
    except ValueError:
        value = None
    if value is None or value not in FIELDS[field].bounds:
        raise GatewareError(f"operand {word[:40]!r} is no {field}", f"write {_written(field)}")
    return value


def _lines(program: Iterable[Operation]) -> Iterator[str]:
    depth = 0
    for operation in program:
        depth -= operation.name == "next"
        instruction = INSTRUCTIONS[operation.name]
        words = [_word(field, operation[field]) for field in instruction.operands]
        flags = [flag for flag in instruction.flags if (operation.decode if flag == "decode" else operation[flag])]
        yield "  " * max(depth, 0) + " ".join([f"{operation.name:7}", ", ".join(words), *flags]).rstrip() + "\n"
        depth += operation.name == "loop"


def _word(field: str, value: int) -> str:
    return f"{FIELDS[field].prefix or field + '='}{value}"


def _written(field: str) -> str:
    if FIELDS[field].width == 1:
        return f"`{field}` or nothing"
    prefix, bounds = FIELDS[field].prefix, FIELDS[field].bounds
    return f"{prefix}0 to {prefix}{bounds.stop - 1}" if prefix else f"{field}={bounds.start} to {bounds.stop - 1}"


def _form(name: str) -> str:
    instruction = INSTRUCTIONS[name]
    operands = ", ".join(field if FIELDS[field].prefix else f"{field}=" for field in instruction.operands)
    flags = "".join(f" [{flag}]" for flag in instruction.flags if flag != "decode")
    return f"{name} {operands}{flags}".rstrip()


if __name__ == "__main__":
    print(page(), end="")

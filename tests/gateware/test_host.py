"""The driver against lines that fail, and the identity of a core."""

import dataclasses

import pytest

from unmul.errors import GatewareError
from unmul.gateware.host import Board
from unmul.gateware.parameters import Parameters
from unmul.gateware.protocol import Space, identity, word_bytes

PARAMETERS = Parameters(lanes=16, port_bytes=2)


class Canned:
    """A line that answers the same to everything."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.sent = answer, b""

    def write(self, content: bytes, /) -> int:
        self.sent += content
        return len(content)

    def read(self, size: int, /) -> bytes:
        return self.answer[:size]


def test_a_silent_board_is_told_with_what_came():
    with pytest.raises(GatewareError, match=r"sent 3 of 6 bytes.*check the line"):
        Board(Canned(b"abc"), PARAMETERS)


def test_an_answer_with_a_wrong_checksum_is_refused():
    with pytest.raises(GatewareError, match="lost or changed"):
        Board(Canned(identity(PARAMETERS).to_bytes(4, "little") + b"??"), PARAMETERS)


def test_the_first_bytes_sent_ask_for_the_identity():
    line = Canned(b"")
    with pytest.raises(GatewareError):
        Board(line, PARAMETERS)
    assert line.sent == bytes([4, 0, 0, 0, 0, 1, 0, 0, 0])


def test_identity_is_of_what_programs_and_images_depend_on():
    assert identity(PARAMETERS) == identity(dataclasses.replace(PARAMETERS, clock_mhz=61.0, board="ulx3s-85f"))
    for change in ({"lanes": 20}, {"port_bytes": 4}, {"buffer_words": 64}, {"vector_depth": 1024}):
        assert identity(PARAMETERS) != identity(dataclasses.replace(PARAMETERS, **change))


def test_words_of_memory_are_as_wide_as_the_port():
    assert [word_bytes(space, PARAMETERS) for space in Space] == [2, 8, 4, 4, 4, 4]

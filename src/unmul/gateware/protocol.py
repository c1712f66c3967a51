"""What host and board say to each other over a serial line: 8 data bits, no parity, one stop bit; little-endian.

The host sends a header: command u8 (a Space, and WRITE to write), address u32, count u32 of words of that space; to
write, the words follow. The board answers with the words of a read, then with a CRC-16/XMODEM (u16) of everything that
went over the line before it, both ways. A break resets the link and the core, and ends whatever was under way.
"""

from __future__ import annotations

import hashlib
import json
import struct
from enum import IntEnum, IntFlag

from unmul.gateware.parameters import Parameters

__all__ = ["HEADER", "WRITE", "Space", "Status", "TokenFlag", "identity", "word_bytes"]

HEADER = struct.Struct("<BII")
WRITE = 0x80


class Space(IntEnum):
    """What words are read from, or written to."""

    MEMORY = 0  # port words
    PROGRAM = 1  # instructions, written only
    STATE = 2  # int32
    RUN = 3  # read only: each word is the token that comes after the one before; the address is the first, with flags
    STATUS = 4  # read only, see Status
    CONTROL = 5  # u32, registers of the memory controller, where it has any


class Status(IntEnum):
    """Addresses of the status, u32 each."""

    IDENTITY = 0  # of the parameters that the core was built with
    SATURATIONS = 1  # since reset
    CYCLES = 2  # of the last token


class TokenFlag(IntFlag):
    """Beside the token in the address of a run; they hold for the first one."""

    FIRST = 1 << 16  # the state is read as 0
    PREFILL = 1 << 17  # without the head: the answer means nothing


def word_bytes(space: Space, parameters: Parameters) -> int:
    """Bytes of a word of a space."""
    return {Space.MEMORY: parameters.port_bytes, Space.PROGRAM: 8}.get(space, 4)


def identity(parameters: Parameters) -> int:
    """32 bits that tell cores apart: of all parameters that programs and images depend on."""
    shape = parameters.to_dict()
    del shape["clock_mhz"], shape["board"]
    return int.from_bytes(hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).digest()[:4], "little")

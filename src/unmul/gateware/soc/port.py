"""How whoever wants words meets a memory."""

from __future__ import annotations

from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from unmul.gateware.fetch import ADDRESS_BITS

__all__ = ["MemoryPort", "memory_request"]


def memory_request(width: int) -> data.StructLayout:
    """The layout of a request for a memory with words of so many bits."""
    return data.StructLayout({"address": ADDRESS_BITS, "write": 1, "data": width})


class MemoryPort(wiring.Signature):
    """Words of `width` bits, as a member of whoever wants them.

    Members: requests, a stream of memory_request; data with data_valid, the words that were read, in their order. An
    answer cannot be refused. A request sees what all requests before it have written.
    """

    def __init__(self, width: int) -> None:
        requests = Out(stream.Signature(memory_request(width)))
        super().__init__({"requests": requests, "data": In(width), "data_valid": In(1)})

"""Boards that a build can be for: memory, size of the fabric, power at rest, each with where the figure comes from.

Nothing was run on any of them. Clocks of ECP5 boards are below the 111 MHz that place and route gives the 64-lane core;
others are assumed, for no open place and route exists for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from unmul.errors import UsageError

__all__ = ["BOARDS", "Band", "Board", "board"]


class Band(NamedTuple):
    """An estimate that is never one figure."""

    low: float
    mid: float
    high: float

    def times(self, count: float) -> Band:
        """The band of so many events."""
        return Band(*(count * value for value in self))

    def plus(self, other: Band) -> Band:
        """The band of both, their errors assumed to go together."""
        return Band(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """What a board offers an accelerator, in bytes, bytes a second, nanoseconds, watts and picojoules."""

    name: str
    device: str
    process: str  # of the fabric: "40 nm" or "16 nm", the key of the energy bands
    place_and_route: bool  # whether the open tools go further than a count of LUTs
    memory: str
    memory_bytes: int
    bandwidth: float
    latency_ns: float
    port_bytes: int
    clock_mhz: float
    lanes: int  # as many as the memory can feed at this clock, and some: rows should be nearly whole beats
    luts: int
    ram_bits: int
    dram_pj_per_bit: Band | None
    idle_watts: Band | None
    sources: str

    @property
    def words_per_cycle(self) -> float:
        """Port words that the memory delivers a cycle, at most 1."""
        return min(1.0, self.bandwidth / (self.clock_mhz * 1e6 * self.port_bytes))

    @property
    def latency_cycles(self) -> int:
        """Cycles from a request to its first word."""
        return round(self.latency_ns * self.clock_mhz / 1000)


_DDR = Band(10, 20, 30)  # +-50 %: real parts differ widely (Ghose et al. 2018); 20 pJ/bit from Horowitz, ISSCC 2014
_HBM = Band(3.9, 5.5, 7.0)  # O'Connor, MICRO 2017; Jouppi, ISCA 2021
_ECP5_IDLE = Band(0.85, 1.7, 3.4)  # a stand-in: Arty A7-100T at rest, 1.70 W measured by TernaryCore, x/÷ 2

BOARDS = {
    each.name: each
    for each in (
        Board(
            name="sim",
            device="none",
            process="40 nm",
            place_and_route=False,
            memory="a memory as wide as the port that delivers a word a cycle",
            memory_bytes=2**34,
            bandwidth=0.8e9,
            latency_ns=200,
            port_bytes=8,
            clock_mhz=100,
            lanes=64,
            luts=10**9,
            ram_bits=10**12,
            dram_pj_per_bit=None,
            idle_watts=None,
            sources="no board: for simulation and tests",
        ),
        Board(
            name="ulx3s-85f",
            device="LFE5U-85F",
            process="40 nm",
            place_and_route=True,
            memory="SDRAM x16, 100 MHz",
            memory_bytes=32 * 2**20,
            bandwidth=0.2e9,
            latency_ns=100,
            port_bytes=2,
            clock_mhz=100,
            lanes=20,
            luts=83_640,
            ram_bits=208 * 18 * 1024,
            dram_pj_per_bit=_DDR,
            idle_watts=_ECP5_IDLE,
            sources="memory: peak of the part; idle: stand-in, not measured on this board",
        ),
        Board(
            name="ecpix5-85f",
            device="LFE5UM5G-85F",
            process="40 nm",
            place_and_route=True,
            memory="DDR3 x16, LiteDRAM 1:2 at 75 MHz",
            memory_bytes=512 * 2**20,
            bandwidth=0.6e9,
            latency_ns=300,
            port_bytes=16,
            clock_mhz=75,
            lanes=64,
            luts=83_640,
            ram_bits=208 * 18 * 1024,
            dram_pj_per_bit=_DDR,
            idle_watts=_ECP5_IDLE,
            sources="memory: peak of LiteDRAM's ECP5 PHY at 75 MHz; idle: stand-in, not measured on this board",
        ),
        Board(
            name="kv260",
            device="XCK26",
            process="16 nm",
            place_and_route=False,
            memory="DDR4-2400 x64 through four 128-bit ports",
            memory_bytes=4 * 2**30,
            bandwidth=12.7e9,
            latency_ns=200,
            port_bytes=64,
            clock_mhz=250,
            lanes=256,
            luts=117_120,
            ram_bits=144 * 36 * 1024 + 64 * 288 * 1024,
            dram_pj_per_bit=_DDR,
            idle_watts=Band(3.43, 3.81, 4.19),
            sources="memory: 12.7 GB/s in use and 3.81 W at rest (±10 %), metered by bitnet-kv260; clock: theirs",
        ),
        Board(
            name="u280",
            device="XCU280",
            process="16 nm",
            place_and_route=False,
            memory="HBM2, one port of 256 bytes of 460 GB/s",
            memory_bytes=8 * 2**30,
            bandwidth=76.8e9,
            latency_ns=250,
            port_bytes=256,
            clock_mhz=300,
            lanes=1024,
            luts=1_303_680,
            ram_bits=2016 * 36 * 1024 + 960 * 288 * 1024,
            dram_pj_per_bit=_HBM,
            idle_watts=Band(15, 25, 35),
            sources="one core cannot use all of the HBM: a row is no wider than the model; idle: a guess",
        ),
    )
}


def board(name: str) -> Board:
    """A board by its name.

    Raises:
        UsageError: there is none.
    """
    if name not in BOARDS:
        raise UsageError(f"--board {name} is not known", f"choose one of {', '.join(BOARDS)}")
    return BOARDS[name]

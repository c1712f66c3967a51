"""How many cycles a token takes, modelled: the sequencer's rules, the units' rates, and a memory behind its buffer.

Every figure from here is to be called "modelled"; the RTL simulation gives the true one, within half a percent for the
embedded model. Issue is in order, one instruction a cycle, when unit and registers are free; the stream unit waits for
words that have not come.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from unmul.gateware.boards import Board
from unmul.gateware.execute import control_flow
from unmul.gateware.isa import FIELDS, Operation
from unmul.gateware.parameters import Parameters

__all__ = ["Timing", "model_time"]

# Cycles beyond one an element or beat: what fills and empties the pipeline, fitted to the verilated core.
PIPELINE = {"load": 11, "scale": 11, "tmatmul": 21, "thead": 21, "norm": 60, "quant": 61, "row": 27}
PASSES = {"norm": 2, "quant": 2}
CHUNKS = 16  # of the stream buffer: how finely its filling is followed


@dataclass(frozen=True, slots=True)
class Timing:
    """Cycles of one token, the two bounds below which it cannot go, and what the rest is."""

    cycles: int
    memory_cycles: int  # every byte of the image that is read, at the memory's rate
    lane_cycles: int  # every beat of a product, one a cycle
    busy: dict[str, int]  # unit -> cycles
    starved: int  # cycles in which the stream unit waited for the memory

    @property
    def bound_cycles(self) -> int:
        """The larger of the two bounds."""
        return max(self.memory_cycles, self.lane_cycles)

    @property
    def bound(self) -> str:
        """What binds: "memory" or "lanes" where it takes three quarters of the cycles, else "chain" (latency)."""
        if self.bound_cycles < 0.75 * self.cycles:
            return "chain"
        return "memory" if self.memory_cycles >= self.lane_cycles else "lanes"

    def to_dict(self) -> dict[str, Any]:
        """For a JSON document."""
        return {
            "cycles": self.cycles,
            "bound_cycles": self.bound_cycles,
            "bound": self.bound,
            "memory_cycles": self.memory_cycles,
            "lane_cycles": self.lane_cycles,
            "busy": self.busy,
            "starved": self.starved,
        }


@dataclass
class _Memory:
    """The prefetcher: words come in order at the board's rate, never more than the buffer ahead of what was taken."""

    parameters: Parameters
    rate: float  # words a cycle
    latency: int
    requests: deque[int] = field(default_factory=deque)  # beats
    words: int = 0  # taken, of all requests
    time: float = 0.0  # at which the last fetched word came
    taken: deque[tuple[float, int]] = field(default_factory=deque)  # when, and how many words had been taken by then

    def request(self, beats: int, now: float) -> None:
        if not self.requests:
            self.time = max(self.time, now + self.latency)
        self.requests.append(beats)

    def take(self, beats: int, begin: float, cycles_per_beat: float) -> float:
        """When a unit that begins now has taken so many beats, at most one in so many cycles."""
        buffer = self.parameters.buffer_words * self.parameters.port_bytes // self.parameters.beat_bytes
        chunk = max(1, buffer // CHUNKS)
        left = self.requests[0]
        for done in range(0, beats, chunk):
            step = min(chunk, beats - done)
            words = self.parameters.words(left) - self.parameters.words(left - step)
            left -= step
            begin = max(max(begin, self.time) + step * cycles_per_beat, self._arrival(words))
            self.taken.append((begin, self.words))
        self.requests[0] = left
        if not left:
            self.requests.popleft()
        return begin

    def _arrival(self, words: int) -> float:
        """When the next words are in the buffer; they were asked for as soon as it had room for them."""
        self.words += words
        room = self.words - self.parameters.buffer_words
        freed = 0.0
        while self.taken and self.taken[0][1] <= room:
            freed = self.taken.popleft()[0]
        self.time = max(self.time, freed) + words / self.rate
        return self.time


def model_time(program: Sequence[Operation], parameters: Parameters, board: Board, *, prefill: bool = False) -> Timing:
    """Cycles of one token of a program on an accelerator with a board's memory."""
    memory = _Memory(parameters, board.words_per_cycle, board.latency_cycles)
    free: Counter[str] = Counter()  # unit or register -> first cycle in which it can be had
    busy: Counter[str] = Counter()
    now = starved = words = lanes = 0
    for operation, _counter in control_flow(program, prefill=prefill):
        now += 1
        if operation.unit == "control":
            words += _request(memory, operation, parameters, now)
            continue
        needed = [operation.unit, *_registers(operation)]
        now = max(now, *(free[each] for each in needed))
        cycles, beats = _cycles(operation, parameters)
        end = now + cycles
        if beats:
            extra = PIPELINE[operation.name]
            end = math.ceil(memory.take(beats, now, (cycles - extra) / beats)) + extra
            starved += end - now - cycles
            lanes += beats * ("beats" in operation.values)
        busy[operation.unit] += end - now
        free |= Counter(dict.fromkeys(needed, end))
    total = max(free.values(), default=now)
    return Timing(total, math.ceil(words / board.words_per_cycle), lanes, dict(busy), starved)


def _request(memory: _Memory, operation: Operation, parameters: Parameters, now: int) -> int:
    """Queue what an instruction asks for; returns its words."""
    beats = operation.values.get("length", operation.values.get("row_beats", 0))
    if beats:
        memory.request(beats, now)
    return parameters.words(beats)


def _cycles(operation: Operation, parameters: Parameters) -> tuple[int, int]:
    """Cycles of an instruction when nothing keeps it waiting, and the beats that it takes."""
    count = operation.values.get("count", 1)
    extra = PIPELINE.get(operation.name, PIPELINE["row"])
    if operation.name == "load":
        return count + extra, parameters.vector_beats(count)
    if operation.unit == "stream":
        beats = count * operation.values.get("beats", 1)
        return beats + extra, beats
    return PASSES.get(operation.name, 1) * count + extra, 0


def _registers(operation: Operation) -> list[str]:
    """Registers that an instruction owns; scalars are taken at issue, except the one that `scale` writes."""
    names = [name for name in operation.values if FIELDS[name].prefix in ("v", "q") or name == "sd"]
    return [f"{FIELDS[name].prefix}{operation[name]}" for name in names]

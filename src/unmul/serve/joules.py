"""What a token costs: the joules of the whole device while a request ran, shared by all tokens written in that time."""

from __future__ import annotations

import time

from unmul.energy import Meter
from unmul.serve.scheduler import Scheduler

__all__ = ["Joules"]

LEAST_S = 0.1  # counters move in steps of up to some milliseconds: a shorter stretch says little


class Joules:
    """Counts from when it is made. Idle power and the reading of prompts are part of it, whoever sent them."""

    def __init__(self, meter: Meter, scheduler: Scheduler) -> None:
        self._meter, self._scheduler = meter, scheduler
        self._start = time.monotonic()
        self._joules, self._tokens = meter.joules(), scheduler.new_tokens

    def per_token(self) -> float | None:
        """Joules a new token until now; None where nothing is measured, or too little has happened."""
        joules, tokens = self._meter.joules(), self._scheduler.new_tokens - self._tokens
        if joules is None or self._joules is None or not tokens or time.monotonic() - self._start < LEAST_S:
            return None
        return (joules - self._joules) / tokens

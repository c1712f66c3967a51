"""The log of a process that does not lead: the same calls as train.log.Log, and not a word."""

from __future__ import annotations

from collections.abc import Mapping

from unmul.train.loop import Step

__all__ = ["Silence"]


class Silence:
    """Takes what a Log takes and drops it."""

    def __enter__(self) -> Silence:
        return self

    def __exit__(self, *raised: object) -> None:
        return None

    joules: float | None = None

    def step(self, step: Step, joules: float | None) -> None:
        """Nothing."""

    def record(self, done: int, figures: Mapping[str, float | None], joules: float | None) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""

    def tokens_per_s(self, done: int) -> float:
        """Not measured: 0."""
        return 0.0

"""What /metrics tells, in Prometheus' text form."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from unmul.serve.scheduler import PromptRead, Written
from unmul.serve.service import Service

__all__ = ["Metrics"]

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)

Events = AsyncIterator[tuple[int, PromptRead | Written] | None]


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._responses = Counter("unmul_responses", "Answered requests by status", ["status"], registry=registry)
        self._first = Histogram(
            "unmul_first_token_seconds", "From a request to its first token", buckets=SECONDS, registry=registry
        )
        self._between = Histogram(
            "unmul_between_tokens_seconds", "Between tokens of a request", buckets=SECONDS, registry=registry
        )

    def watch(self, service: Service) -> None:
        """Tell of a service too, once it is loaded."""
        self._registry.register(_Gauges(service))

    def answered(self, status: int) -> None:
        """Count a response."""
        self._responses.labels(str(status)).inc()

    def text(self) -> bytes:
        """All of it, as /metrics answers."""
        return generate_latest(self._registry)

    async def timed(self, events: Events) -> Events:
        """The same events, their times noted."""
        start, last = time.perf_counter(), None
        async for event in events:
            if event is not None and isinstance(event[1], Written):
                now = time.perf_counter()
                if last is None:
                    self._first.observe(now - start)
                else:
                    self._between.observe(now - last)
                last = now
            yield event


class _Gauges(Collector):
    """What the scheduler, the cache and the sessions know anyway."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        service, scheduler = self._service, self._service.scheduler
        yield CounterMetricFamily("unmul_prompt_tokens", "Tokens of prompts", scheduler.prompt_tokens)
        yield CounterMetricFamily("unmul_cached_tokens", "Of these, from cached states", scheduler.cached_tokens)
        yield CounterMetricFamily("unmul_new_tokens", "Tokens written", scheduler.new_tokens)
        yield GaugeMetricFamily("unmul_answers_active", "Answers being read or written", scheduler.active)
        yield GaugeMetricFamily("unmul_prompts_waiting", "Prompts without a slot", service.worker.waiting)
        yield GaugeMetricFamily("unmul_cache_bytes", "Cached states", service.cache.bytes)
        yield GaugeMetricFamily("unmul_sessions", "Sessions in memory", len(service.sessions))
        yield GaugeMetricFamily("unmul_state_bytes", "Size of one state", service.state_bytes)
        joules = service.meter.joules()
        if joules is not None:  # a counter that stands at 0 would look measured
            told = f"Energy of the whole device since the model was loaded, by {service.meter.source}"
            yield CounterMetricFamily("unmul_energy_joules", told, joules)

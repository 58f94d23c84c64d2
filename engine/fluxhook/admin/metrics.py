"""Prometheus: the shared counters as metrics, named by its conventions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from fluxhook._native import shared
from fluxhook._version import VERSION
from fluxhook.stats import EndpointStats, Stats
from fluxhook.transport.datadir import SAMPLED_ONE_IN

__all__ = ["CONTENT_TYPE", "Metrics"]

#: what `generate_latest` writes
CONTENT_TYPE: Final = "text/plain; version=0.0.4"
_STATES: Final = ("active", "misconfigured", "paused", "disabled", "open", "half-open")
#: Of the shared buckets, two for each doubling from 1 us to 107 minutes, those from 0.5 ms to 134 s:
#: every series costs its reader something.
_BUCKETS: Final = range(16, 54, 2)
#: and for the stages of a request, eightfold from 15 us to 34 s
_STAGE_BUCKETS: Final = range(6, 52, 6)

#: a counter's name, what it counts, and where it stands
_COUNTERS: Final[tuple[tuple[str, str, Callable[[EndpointStats], int]], ...]] = (
    ("events_accepted", "Events accepted for the endpoint.", lambda e: e.accepted),
    ("events_refused", "Events that a full queue refused.", lambda e: e.refused),
    ("events_filtered", "Events held back by where, sample or threshold.", lambda e: e.filtered),
    ("events_aggregated", "Events that went into notifications.", lambda e: e.aggregated),
    ("delivery_attempts_failed", "Attempts that failed.", lambda e: e.failed_attempts),
    ("deliveries_skipped", "Deliveries held back by an open breaker.", lambda e: e.skipped),
    (
        "signature_rejections",
        "Attempts answered with 401 or 403.",
        lambda e: e.signature_rejections,
    ),
    (
        "size_rejections",
        "Deliveries that were too large to be sent or taken.",
        lambda e: e.size_rejections,
    ),
    (
        "internal_faults",
        "Attempts and reports that an error of the engine's own ended.",
        lambda e: e.faults,
    ),
)


class Metrics(Collector):
    """One page of metrics. `stats` is asked anew for each; nothing is kept."""

    def __init__(self, stats: Callable[[], Stats]) -> None:
        self._stats = stats
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def page(self) -> bytes:
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Return nothing beforehand: registering must not read an engine's files."""
        return []

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        endpoints = [endpoint for endpoint in stats.endpoints if endpoint.state != "removed"]
        build = InfoMetricFamily("fluxhook_build", "The version of Fluxhook.")
        build.add_metric([], {"version": VERSION})
        yield build
        up = "Whether an engine runs on the data directory."
        yield GaugeMetricFamily("fluxhook_up", up, value=int(stats.running))
        serving = "Workers that take and send events."
        yield GaugeMetricFamily("fluxhook_workers_serving", serving, value=stats.serving or 0)
        version = "Counts the configurations that were in force."
        yield GaugeMetricFamily("fluxhook_config_version", version, value=stats.version)
        for name, text, count in _COUNTERS:
            counter = CounterMetricFamily(f"fluxhook_{name}", text, labels=["endpoint"])
            for endpoint in endpoints:
                counter.add_metric([endpoint.name], count(endpoint))
            yield counter
        yield from _outcomes(endpoints)
        yield from _pending(endpoints)
        misconfigured = "Endpoints that cannot be built; their events wait."
        held = sum(bool(endpoint.misconfigured_reason) for endpoint in endpoints)
        yield GaugeMetricFamily("fluxhook_misconfigured_endpoints", misconfigured, value=held)
        yield _durations(endpoints)
        yield from _connections(endpoints)
        yield from _processes(stats)


def _outcomes(endpoints: list[EndpointStats]) -> Iterator[Metric]:
    ended = CounterMetricFamily(
        "fluxhook_deliveries",
        "Deliveries that ended. Those that died are fluxhook_dead_letters: they can be replayed.",
        labels=["endpoint", "outcome"],
    )
    dropped = CounterMetricFamily(
        "fluxhook_dropped",
        "Deliveries that a policy dropped.",
        labels=["endpoint", "policy"],
    )
    dead = GaugeMetricFamily(
        "fluxhook_dead_letters", "Dead letters in the store.", labels=["endpoint"]
    )
    for e in endpoints:
        ended.add_metric([e.name, "delivered"], e.delivered)
        ended.add_metric([e.name, "dropped"], sum(e.dropped.values()))
        for policy, n in e.dropped.items():
            dropped.add_metric([e.name, policy], n)
        dead.add_metric([e.name], e.dead)
    yield from (ended, dropped, dead)


def _pending(endpoints: list[EndpointStats]) -> Iterator[Metric]:
    pending = GaugeMetricFamily(
        "fluxhook_pending",
        "Deliveries accepted and not ended, in the rings and in the store.",
        labels=["endpoint", "where"],
    )
    oldest = GaugeMetricFamily(
        "fluxhook_oldest_pending_seconds",
        "The age of the oldest delivery that waits in the store; 0 where none does.",
        labels=["endpoint"],
    )
    state = GaugeMetricFamily(
        "fluxhook_endpoint_state",
        "1 for the state that the endpoint is in.",
        labels=["endpoint", "state"],
    )
    for e in endpoints:
        pending.add_metric([e.name, "ring"], e.queued)
        pending.add_metric([e.name, "store"], e.stored)
        oldest.add_metric([e.name], e.oldest_pending_age_ns / 1e9)
        for name in _STATES:
            state.add_metric([e.name, name], int(e.state == name))
    yield from (pending, oldest, state)


def _durations(endpoints: list[EndpointStats]) -> Metric:
    durations = HistogramMetricFamily(
        "fluxhook_delivery_duration_seconds",
        "Successful attempts by duration. The sum is estimated from the buckets, to within a quarter.",
        labels=["endpoint"],
    )
    for e in endpoints:
        buckets, seconds = _histogram(e.histogram, _BUCKETS)
        durations.add_metric([e.name], buckets=buckets, sum_value=seconds)
    return durations


def _connections(endpoints: list[EndpointStats]) -> Iterator[Metric]:
    reuse = GaugeMetricFamily(
        "fluxhook_connection_reuse_ratio",
        "The share of the requests that found a connection open.",
        labels=["endpoint"],
    )
    stages = HistogramMetricFamily(
        "fluxhook_request_stage_duration_seconds",
        "Where the time of requests went: queue, sign and first_byte of one request in "
        f"{SAMPLED_ONE_IN}, dns, connect and tls of each connection. The sum is estimated.",
        labels=["endpoint", "stage"],
    )
    for e in endpoints:
        if e.reuse is not None:
            reuse.add_metric([e.name], e.reuse)
        for stage, counts in e.stage_histograms.items():
            buckets, seconds = _histogram(counts, _STAGE_BUCKETS)
            stages.add_metric([e.name, stage], buckets=buckets, sum_value=seconds)
    yield from (reuse, stages)


def _histogram(counts: list[int], shown: range) -> tuple[list[tuple[str, float]], float]:
    """Return cumulative buckets, of which those in `shown`, and the sum in seconds. The counters
    keep no sum, so it is estimated: each of a bucket counts with its middle."""
    buckets: list[tuple[str, float]] = []
    seen, total_us, below = 0, 0.0, 0
    for i, n in enumerate(counts):
        limit_us = shared.bucket_limit_us(i)
        seen += n
        total_us += n * (below + limit_us) / 2
        below = limit_us
        if i in shown:
            buckets.append((repr(limit_us / 1e6), seen))
    buckets.append(("+Inf", seen))
    return buckets, total_us / 1e6


def _processes(stats: Stats) -> Iterator[Metric]:
    for role, name, text, field in (
        ("publisher", "accepted", "Events that a publisher's slot accepted.", "accepted"),
        ("publisher", "refused", "Events that a publisher's slot refused.", "refused"),
        ("worker", "attempts_succeeded", "Attempts of a worker that succeeded.", "succeeded"),
        ("worker", "attempts_failed", "Attempts of a worker that failed.", "failed"),
    ):
        counter = CounterMetricFamily(f"fluxhook_{role}_{name}", text, labels=[role])
        for one in stats.processes:
            if one.role == role:
                counter.add_metric([one.name], getattr(one, field))
        yield counter

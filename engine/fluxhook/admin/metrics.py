"""Prometheus: the shared counters as metrics, named by its conventions.

The number of series is bounded. `admin.metrics_endpoints` endpoints have series of their own, up to
SERIES each; all others are added up as one that is called `other`. Which have their own goes by the id,
which never changes: if an endpoint moved out of `other`, counters would go down.
"""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Final, NamedTuple, get_args

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
from fluxhook.endpoint_state import StateName
from fluxhook.stats import EndpointStats, Stats
from fluxhook.transport.datadir import SAMPLED_ONE_IN, STAGES

__all__ = ["CONTENT_TYPE", "OTHER", "SERIES", "Metrics"]

#: what `generate_latest` writes
CONTENT_TYPE: Final = "text/plain; version=0.0.4"
#: series of one endpoint at most; most have half as many
SERIES: Final = 160
#: the label of what is added up
OTHER: Final = "other"
SHOWN_STATES: Final = tuple(state for state in get_args(StateName) if state != "removed")
#: limits of the buckets in seconds. The shared buckets have others, two for each doubling, so that what
#: is in the one in which a limit lies is divided as if it were spread evenly.
LIMITS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
#: of the stages of a request, eightfold from 15 us to 34 s: every series costs its reader something
_STAGE_LIMITS: Final = tuple(shared.bucket_limit_us(i) / 1e6 for i in range(6, 52, 6))

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


class _Group(NamedTuple):
    """The endpoints that share a label. Those that were removed still count in what only grows, where
    they are added up with others; nothing else is shown of them."""

    labels: list[str]
    every: list[EndpointStats]
    present: list[EndpointStats]

    def sum(self, count: Callable[[EndpointStats], int]) -> int:
        return sum(map(count, self.every))

    def sum_present(self, count: Callable[[EndpointStats], int]) -> int:
        return sum(map(count, self.present))


class Metrics(Collector):
    """One page of metrics. `stats` is asked anew for each; nothing is kept."""

    def __init__(
        self, stats: Callable[[], Stats], own_series: int, ignored_trace_headers: int = 0
    ) -> None:
        """`own_series` is the option `admin.metrics_endpoints`; the headers are those that the API has
        ignored so far."""
        self._stats = stats
        self._own_series = own_series
        self._ignored_trace_headers = ignored_trace_headers
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
        build = InfoMetricFamily("fluxhook_build", "The version of Fluxhook.")
        build.add_metric([], {"version": VERSION})
        yield build
        up = "Whether an engine runs on the data directory."
        yield GaugeMetricFamily("fluxhook_up", up, value=int(stats.running))
        serving = "Workers that take and send events."
        yield GaugeMetricFamily("fluxhook_workers_serving", serving, value=stats.serving or 0)
        version = "Counts the configurations that were in force."
        yield GaugeMetricFamily("fluxhook_config_version", version, value=stats.version)
        ignored = (
            "Headers traceparent and tracestate that could not be read, of requests with events."
        )
        yield CounterMetricFamily(
            "fluxhook_ignored_trace_headers", ignored, value=self._ignored_trace_headers
        )
        misconfigured = "Endpoints that cannot be built; their events wait."
        held = sum(map(_is_held, stats.endpoints))
        yield GaugeMetricFamily("fluxhook_misconfigured_endpoints", misconfigured, value=held)
        yield from _of_endpoints(stats.endpoints, self._own_series)
        yield from _processes(stats)
        yield from _files(stats)


def _groups(endpoints: list[EndpointStats], own_series: int) -> list[_Group]:
    """Return the endpoints by their labels. A removed one with a label of its own is left out."""
    found: dict[str, list[EndpointStats]] = {}
    for e in endpoints:
        own = e.id < own_series
        if not (own and e.state == "removed"):
            found.setdefault(e.name if own else OTHER, []).append(e)
    return [
        _Group([label] if own_series else [], every, [e for e in every if e.state != "removed"])
        for label, every in found.items()
    ]


def _of_endpoints(endpoints: list[EndpointStats], own_series: int) -> Iterator[Metric]:
    groups = _groups(endpoints, own_series)
    label = ["endpoint"] if own_series else []
    for name, text, count in _COUNTERS:
        counter = CounterMetricFamily(f"fluxhook_{name}", text, labels=label)
        for group in groups:
            counter.add_metric(group.labels, group.sum(count))
        yield counter
    yield from _outcomes(groups, label)
    yield from _pending(groups, label)
    yield from _states(groups, label)
    yield from _durations(groups, label)


def _outcomes(groups: list[_Group], label: list[str]) -> Iterator[Metric]:
    ended = CounterMetricFamily(
        "fluxhook_deliveries",
        "Deliveries that ended. Those that died are fluxhook_dead_letters: they can be replayed.",
        labels=[*label, "outcome"],
    )
    dropped = CounterMetricFamily(
        "fluxhook_dropped",
        "Deliveries that a policy dropped.",
        labels=[*label, "policy"],
    )
    died = CounterMetricFamily(
        "fluxhook_dead",
        "Deaths of deliveries by cause; one that was replayed and died again counts twice.",
        labels=[*label, "cause"],
    )
    dead = GaugeMetricFamily("fluxhook_dead_letters", "Dead letters in the store.", labels=label)
    for group in groups:
        ended.add_metric([*group.labels, "delivered"], group.sum(lambda e: e.delivered))
        ended.add_metric([*group.labels, "dropped"], group.sum(lambda e: sum(e.dropped.values())))
        for policy, n in _added(e.dropped for e in group.every).items():
            dropped.add_metric([*group.labels, policy], n)
        for cause, n in _added(e.died_by_cause for e in group.every).items():
            died.add_metric([*group.labels, cause], n)
        dead.add_metric(group.labels, group.sum(lambda e: e.dead))
    yield from (ended, dropped, died, dead)


def _pending(groups: list[_Group], label: list[str]) -> Iterator[Metric]:
    pending = GaugeMetricFamily(
        "fluxhook_pending",
        "Deliveries accepted and not ended, in the rings and in the store.",
        labels=[*label, "where"],
    )
    oldest = GaugeMetricFamily(
        "fluxhook_oldest_pending_seconds",
        "The age of the oldest delivery that waits in the store; 0 where none does.",
        labels=label,
    )
    past_due = GaugeMetricFamily(
        "fluxhook_past_due_seconds",
        "How late the delivery in the store is that has been due for the longest; 0 where none is, or "
        "nothing is to be sent now.",
        labels=label,
    )
    for group in groups:
        pending.add_metric([*group.labels, "ring"], group.sum_present(lambda e: e.queued))
        pending.add_metric([*group.labels, "store"], group.sum_present(lambda e: e.stored))
        ages = (e.oldest_pending_age_ns for e in group.present)
        oldest.add_metric(group.labels, max(ages, default=0) / 1e9)
        late = (e.past_due_ns for e in group.present)
        past_due.add_metric(group.labels, max(late, default=0) / 1e9)
    yield from (pending, oldest, past_due)


def _states(groups: list[_Group], label: list[str]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "fluxhook_endpoint_state",
        "1 for the state that the endpoint is in; where endpoints are added up, how many are.",
        labels=[*label, "state"],
    )
    held = GaugeMetricFamily(
        "fluxhook_held",
        "1 where the endpoint cannot be built, so that its events are held; where endpoints are added "
        "up, how many are.",
        labels=label,
    )
    for group in groups:
        found = [e.state for e in group.present]
        for name in SHOWN_STATES:
            state.add_metric([*group.labels, name], found.count(name))
        held.add_metric(group.labels, group.sum_present(_is_held))
    yield from (state, held)


def _is_held(endpoint: EndpointStats) -> bool:
    return endpoint.state != "removed" and bool(endpoint.misconfigured_reason)


def _durations(groups: list[_Group], label: list[str]) -> Iterator[Metric]:
    durations = HistogramMetricFamily(
        "fluxhook_delivery_duration_seconds",
        "Successful attempts by duration. A limit divides the engine's own bucket in which it lies as "
        "if that was filled evenly; the sum is estimated from those, to within a quarter.",
        labels=label,
    )
    reuse = GaugeMetricFamily(
        "fluxhook_connection_reuse_ratio",
        "The share of the requests that found a connection open.",
        labels=label,
    )
    stages = HistogramMetricFamily(
        "fluxhook_request_stage_duration_seconds",
        "Where the time of requests went: queue, sign and first_byte of one request in "
        f"{SAMPLED_ONE_IN}, dns, connect and tls of each connection. The sum is estimated.",
        labels=[*label, "stage"],
    )
    for group in groups:
        buckets, seconds = cumulative([e.histogram for e in group.every], LIMITS_S)
        durations.add_metric(group.labels, buckets=buckets, sum_value=seconds)
        requests = [(e.reuse, e.delivered + e.failed_attempts) for e in group.present]
        reused = [(share, n) for share, n in requests if share is not None]
        if reused:
            ratio = sum(share * n for share, n in reused) / (sum(n for _, n in reused) or 1)
            reuse.add_metric(group.labels, ratio)
        for stage in STAGES:
            counts = [e.stage_histograms[stage] for e in group.every if stage in e.stage_histograms]
            if counts:
                buckets, seconds = cumulative(counts, _STAGE_LIMITS)
                stages.add_metric([*group.labels, stage], buckets=buckets, sum_value=seconds)
    yield from (durations, reuse, stages)


def _files(stats: Stats) -> Iterator[Metric]:
    outages = GaugeMetricFamily(
        "fluxhook_outage",
        "1 for what cannot be written now: the store, rings that are to be synced, the audit trail.",
        labels=["what"],
    )
    for what, fails in stats.outages.items():
        outages.add_metric([what], int(fails))
    yield outages
    unreadable = "Files of the data directory that cannot be read."
    yield GaugeMetricFamily("fluxhook_unreadable_files", unreadable, value=len(stats.problems))
    with contextlib.suppress(OSError):  # then others of these say what is wrong
        disk = os.statvfs(stats.data_dir)
        for name, text, blocks in (
            ("free", "Room on the disk of the data directory.", disk.f_bavail),
            ("size", "Size of the disk of the data directory.", disk.f_blocks),
        ):
            metric = f"fluxhook_disk_{name}_bytes"
            yield GaugeMetricFamily(metric, text, value=blocks * disk.f_frsize)


#: where each of the shared buckets begins and ends, in seconds
_ENDS: Final = [shared.bucket_limit_us(i) / 1e6 for i in range(shared.HISTOGRAM_BUCKETS)]
_BEGINS: Final = [0.0, *_ENDS[:-1]]


def cumulative(
    histograms: list[list[int]], limits: Iterable[float]
) -> tuple[list[tuple[str, float]], float]:
    """Return cumulative buckets, and the sum in seconds. What lies in a shared bucket counts as spread
    evenly over it: for the sum, as its middle."""
    counts = [sum(column) for column in zip(*histograms, strict=True)]
    up_to = [0, *accumulate(counts)]
    buckets: list[tuple[str, float]] = []
    for limit in limits:
        i = bisect_left(_ENDS, limit)
        share = (limit - _BEGINS[i]) / (_ENDS[i] - _BEGINS[i])
        buckets.append((repr(limit), up_to[i] + int(counts[i] * share) if counts else 0))
    buckets.append(("+Inf", up_to[-1]))
    middles = (n * (begin + end) / 2 for n, begin, end in zip(counts, _BEGINS, _ENDS, strict=False))
    return buckets, sum(middles)


def _added(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, n in one.items():
            total[name] = total.get(name, 0) + n
    return total


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
    restarts = "How often a worker ended and was replaced."
    yield CounterMetricFamily("fluxhook_worker_restarts", restarts, value=stats.worker_restarts)

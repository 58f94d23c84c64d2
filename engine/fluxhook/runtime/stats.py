"""What an engine has done and what it still owes, per endpoint, read from its files.

Reading stops nobody. While events flow the figures are of slightly different moments; at rest they
are exact, and

    accepted = delivered + dead + dropped + aggregated + pending

where each side is counted on its own: `pending` is not the difference, but what rings and store hold.
"""

from __future__ import annotations

import contextlib
import os
import time
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import Literal

import msgspec

from fluxhook._native import ring
from fluxhook.policy import breaker
from fluxhook.runtime.snapshot import Snapshot
from fluxhook.store import ReadStore
from fluxhook.transport import datadir as d

__all__ = ["EndpointStats", "LastError", "ProcessStats", "Stats", "read_stats"]


class LastError(msgspec.Struct, frozen=True):
    """The latest failed attempt of an endpoint; `cause` is a word of `policy.outcome.CAUSES`."""

    at_ns: int
    cause: str
    error: str


class EndpointStats(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint. `dropped` says by which policy; `refused` (the ring was full) and `filtered` (by
    `where`, `sample` or `threshold`) were never accepted. `unmetered` were forwarded although there
    was no room to count them for a threshold.

    `state` is active, misconfigured, paused, disabled, open, half-open or removed. Latencies are of
    successful attempts, in milliseconds, to within half of their value; None before the first.
    `aggregated` events went into notifications, which are accepted events themselves. What is `pending`
    is `queued` in the rings or `stored`. Times are nanoseconds since the epoch.
    """

    id: int
    name: str
    url: str
    state: str
    accepted: int = 0
    delivered: int = 0
    dead: int = 0
    aggregated: int = 0
    dropped: dict[str, int] = {}
    queued: int = 0
    stored: int = 0
    #: of those in the store
    oldest_pending_ns: int | None = None
    #: how long ago that was, whatever the wall clock was set to since
    oldest_pending_age_ns: int = 0
    next_retry_ns: int | None = None
    refused: int = 0
    filtered: int = 0
    unmetered: int = 0
    failed_attempts: int = 0
    #: requests that libcurl sent again by itself, after a kept-alive connection turned out closed
    resent: int = 0
    skipped: int = 0
    signature_rejections: int = 0
    size_rejections: int = 0
    #: attempts and reports that an error of the engine's own ended
    faults: int = 0
    latency_ms: dict[str, float] | None = None
    #: how long the stages of requests took: the keys of `datadir.STAGES` and "total", and for each the
    #: p50, p95 and p99 in milliseconds. All but "total" are of samples (see there); what never
    #: happened is left out.
    stages: dict[str, dict[str, float]] = {}
    #: those samples, bucket by bucket as `histogram`
    stage_histograms: dict[str, list[int]] = {}
    #: the share of the requests that found a connection open; None before the first
    reuse: float | None = None
    #: successful attempts by duration; `ring.bucket_limit_us` gives each bucket's upper limit
    histogram: list[int] = []
    last_error: LastError | None = None
    failing_since_ns: int | None = None
    disabled_reason: str = ""
    #: why the endpoint cannot be built, so that its events wait
    misconfigured_reason: str = ""

    @property
    def pending(self) -> int:
        return self.queued + self.stored

    @property
    def success_rate(self) -> float | None:
        """The share of the attempts that succeeded; None before the first."""
        attempts = self.delivered + self.failed_attempts
        return self.delivered / attempts if attempts else None

    @property
    def balance(self) -> int:
        """Zero if every accepted event is accounted for."""
        ended = self.delivered + self.dead + self.aggregated + sum(self.dropped.values())
        return self.accepted - ended - self.pending


class ProcessStats(msgspec.Struct, frozen=True, kw_only=True):
    """What the processes in one publisher's slot, or of one worker, have counted so far: events of the
    one, attempts of the other."""

    role: Literal["publisher", "worker"]
    name: str
    accepted: int = 0
    refused: int = 0
    filtered: int = 0
    succeeded: int = 0
    failed: int = 0


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """A whole engine. `running` tells whether its supervisor is there, `serving` how many of its
    workers take and send events; None where that is not known."""

    data_dir: str
    running: bool
    serving: int | None = None
    version: int
    endpoints: list[EndpointStats]
    processes: list[ProcessStats] = []

    @property
    def pending(self) -> int:
        return sum(endpoint.pending for endpoint in self.endpoints)

    def endpoint(self, name: str) -> EndpointStats:
        """Raises KeyError for a name that the engine does not know."""
        for endpoint in self.endpoints:
            if endpoint.name == name:
                return endpoint
        raise KeyError(name)


def read_stats(data_dir: str | os.PathLike[str]) -> Stats:
    """The figures of the engine of a data directory, whether it runs or not.

    Raises EngineNotRunning where none was ever started.
    """
    datadir = d.DataDir(data_dir)
    snapshot = Snapshot.load(datadir)
    words = datadir.open_words()
    published = _counters(datadir.publisher_slots())
    workers = datadir.worker_folders()
    worked, staged = _counters(workers), _counters(workers, "stages")
    pending: dict[int, int] = {}
    for path in [*datadir.rings.glob("*/*.ring"), *datadir.workers.glob("*/outbox.ring")]:
        with contextlib.suppress(FileNotFoundError):  # an empty one that its publisher replaces
            for endpoint_id, n in ring.unsettled(str(path)).items():
                pending[endpoint_id] = pending.get(endpoint_id, 0) + n
    with ReadStore.open(datadir.store) as store:
        rows = store.endpoints()
        stored = store.counters()
        windows = {endpoint for endpoint, _, _ in store.windows()}
        oldest, due, clock = store.oldest_times_ns(), store.due_times_ns(), store.clock()
    now_ns = time.time_ns() - clock.offset_ns
    configured = {e.name: e for e in snapshot.config.endpoints}
    endpoints = []
    try:
        for row in rows:
            endpoint = configured.get(row.name)
            if endpoint is None:
                state = "removed"
            elif row.disabled_ns is not None:
                state = "disabled"
            elif row.name in snapshot.held:
                state = "misconfigured"
            elif endpoint.paused:
                state = "paused"
            else:
                state = _STATES[breaker.unpack(words.load(row.id, d.BREAKER)).name]
            counted = stored.get(row.id, {})
            done = _sum(worked.values(), row.id)
            sent = _sum(published.values(), row.id)
            stage_histograms = _stage_histograms(staged.values(), row.id)
            latency_ms = _percentiles(done[d.HISTOGRAM :])
            failing_ns = words.load(row.id, d.FAILING)
            dropped = {
                "oldest": sent[d.DROPPED_OLDEST],
                "expired": done[d.DROPPED_EXPIRED],
            }
            for name, n in counted.items():
                if name.startswith("dropped."):
                    cause = name.removeprefix("dropped.")
                    dropped[cause] = dropped.get(cause, 0) + n
            endpoints.append(
                EndpointStats(
                    id=row.id,
                    name=row.name,
                    url=endpoint.url if endpoint else "",
                    state=state,
                    accepted=sent[d.ACCEPTED] + counted.get("accepted", 0),
                    delivered=done[d.DELIVERED] + counted.get("delivered", 0),
                    dead=row.dead,
                    aggregated=counted.get("aggregated", 0),
                    dropped={cause: n for cause, n in dropped.items() if n},
                    queued=pending.get(row.id, 0),
                    # A window's notification is pending from when it opens.
                    stored=row.pending + (row.id in windows),
                    oldest_pending_ns=oldest.get(row.id),
                    oldest_pending_age_ns=clock.age_ns(oldest[row.id], now_ns)
                    if row.id in oldest
                    else 0,
                    next_retry_ns=clock.wall_ns(due[row.id]) if row.id in due else None,
                    refused=sent[d.REFUSED],
                    filtered=sent[d.FILTERED],
                    unmetered=words.load(row.id, d.UNMETERED),
                    failed_attempts=done[d.FAILED],
                    resent=done[d.RESENT],
                    skipped=done[d.SKIPPED],
                    signature_rejections=done[d.SIGNATURE_REJECTED],
                    size_rejections=done[d.SIZE_REJECTED],
                    faults=done[d.FAULTS] + counted.get("faults", 0),
                    latency_ms=latency_ms,
                    stages=_stages(stage_histograms, latency_ms),
                    stage_histograms=stage_histograms,
                    reuse=_reuse(done),
                    histogram=done[d.HISTOGRAM :],
                    last_error=LastError(row.failed_ns, row.failed_cause, row.failed_error)
                    if row.failed_ns is not None
                    else None,
                    failing_since_ns=clock.wall_ns(failing_ns) if failing_ns else None,
                    disabled_reason=row.disabled_reason,
                    misconfigured_reason=snapshot.held.get(row.name, ""),
                )
            )
        processes = [
            *_processes("publisher", published, len(rows)),
            *_processes("worker", worked, len(rows)),
        ]
    finally:
        words.close()
        for counters in (*published.values(), *worked.values(), *staged.values()):
            counters.close()
    return Stats(
        data_dir=str(datadir.path),
        running=is_running(datadir),
        serving=serving(datadir, snapshot.workers),
        version=snapshot.version,
        endpoints=endpoints,
        processes=processes,
    )


_STATES = {"closed": "active", "open": "open", "half_open": "half-open"}


def is_running(datadir: d.DataDir) -> bool:
    """Whether an engine holds the data directory."""
    try:
        d.FileLock(datadir.engine_lock).release()
    except BlockingIOError:
        return True
    return False


def serving(datadir: d.DataDir, workers: int) -> int:
    """How many of the workers take and send events."""
    return sum(d.is_locked(datadir.serving(index)) for index in range(workers))


def _counters(folders: list[Path], name: str = "counters") -> dict[str, ring.Counters]:
    """Those that are there, by the names of their folders."""
    return {
        folder.name: ring.Counters(str(folder / name), writable=False)
        for folder in folders
        if (folder / name).exists()
    }


def _sum(counters: Iterable[ring.Counters], row: int) -> list[int]:
    rows = [c.row(row) for c in counters]
    return [sum(column) for column in zip(*rows, strict=True)] if rows else [0] * d.WORKER_FIELDS


def _stage_histograms(staged: Iterable[ring.Counters], row: int) -> dict[str, list[int]]:
    """Those in which something is, summed over the workers."""
    rows = [counters.row(row) for counters in staged]
    found = {}
    for i, name in enumerate(d.STAGES):
        first = i * ring.HISTOGRAM_BUCKETS
        parts = [row[first : first + ring.HISTOGRAM_BUCKETS] for row in rows]
        parts = [part for part in parts if any(part)]
        if parts:
            found[name] = parts[0] if len(parts) == 1 else list(map(sum, zip(*parts, strict=True)))
    return found


def _stages(
    histograms: dict[str, list[int]], total_ms: dict[str, float] | None
) -> dict[str, dict[str, float]]:
    figures = {name: _percentiles(buckets) for name, buckets in histograms.items()}
    figures["total"] = total_ms
    return {name: figure for name, figure in figures.items() if figure}


def _reuse(done: list[int]) -> float | None:
    requests = sum(done[d.HISTOGRAM :]) + done[d.FAILED_REQUESTS]
    return 1 - done[d.CONNECTED] / requests if requests else None


def _processes(
    role: Literal["publisher", "worker"], counters: dict[str, ring.Counters], endpoints: int
) -> list[ProcessStats]:
    found = []
    for name, file in counters.items():
        total = [sum(column) for column in zip(*map(file.row, range(endpoints)), strict=True)]
        if role == "publisher":
            columns = {"accepted": d.ACCEPTED, "refused": d.REFUSED, "filtered": d.FILTERED}
            figures = {field: total[column] if total else 0 for field, column in columns.items()}
        else:
            figures = {
                "succeeded": sum(total[d.HISTOGRAM :]),
                "failed": total[d.FAILED] if total else 0,
            }
        found.append(ProcessStats(role=role, name=name, **figures))
    return found


def _percentiles(buckets: list[int]) -> dict[str, float] | None:
    up_to = list(accumulate(buckets))
    if not up_to or not up_to[-1]:
        return None
    return {
        name: ring.bucket_limit_us(bisect_left(up_to, share * up_to[-1])) / 1000
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }

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
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from fluxhook._native import ring, shared
from fluxhook.config.schema import Endpoint
from fluxhook.endpoint_state import EndpointState, StateName, endpoint_state
from fluxhook.errors import EngineNotRunning, FluxhookError, LayoutError
from fluxhook.policy.clock import Clock
from fluxhook.policy.failing import Health
from fluxhook.policy.table import IllegalMove
from fluxhook.store import EndpointRow, ReadStore
from fluxhook.store.deaths import Deaths
from fluxhook.transport import datadir as d
from fluxhook.transport.engine_words import EngineWords
from fluxhook.transport.snapshot import Snapshot

__all__ = ["EndpointStats", "LastError", "ProcessStats", "Stats", "read_stats", "share"]


#: a change that is published while the files are read has them read again, up to so often
ATTEMPTS = 5


class LastError(msgspec.Struct, frozen=True):
    """The latest failed attempt of an endpoint, or the latest event of it that died without one.
    `cause` is a word of `policy.outcome.CAUSES`, or of `NOT_ATTEMPTED` there."""

    at_ns: int
    cause: str
    error: str


class EndpointStats(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint. `dropped` says by which policy; `refused` (the ring was full) and `filtered` (by
    `where`, `sample` or `threshold`) were never accepted. `unmetered` were forwarded although there
    was no room to count them for a threshold.

    `state` is one of `endpoint_state.StateName`. `dead` are there to be replayed; `died` counts every
    death there ever was, one that was replayed and died again twice. Latencies are of successful
    attempts, in milliseconds, to within half of their value; None before the first.
    `aggregated` events went into notifications, which are accepted events themselves. What is `pending`
    is `queued` in the rings or `stored`. Times are nanoseconds since the epoch.
    """

    id: int
    name: str
    url: str
    state: StateName
    accepted: int = 0
    delivered: int = 0
    dead: int = 0
    #: of what they died: adds up to `dead`
    dead_by_cause: dict[str, int] = {}
    #: so many ever died of each cause: these never go down
    died_by_cause: dict[str, int] = {}
    aggregated: int = 0
    dropped: dict[str, int] = {}
    queued: int = 0
    stored: int = 0
    #: of those in the store
    oldest_pending_ns: int | None = None
    #: how long ago that was, whatever the wall clock was set to since
    oldest_pending_age_ns: int = 0
    #: None where nothing is sent, and where an open breaker may let the next request go already
    next_retry_ns: int | None = None
    #: when an open breaker lets its next request go; None where it may already
    next_probe_ns: int | None = None
    #: how late the delivery in the store is that has been due for the longest; 0: none is late, or
    #: nothing is to be sent now
    past_due_ns: int = 0
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
    #: as it is configured, whatever its state is besides
    paused: bool = False

    @property
    def pending(self) -> int:
        """The number of events that are neither delivered nor given up, in rings and store."""
        return self.queued + self.stored

    @property
    def dead_cause(self) -> str:
        """Return the cause of which most of the dead letters died; empty where there is none."""
        causes = self.dead_by_cause
        return max(causes, key=lambda cause: (causes[cause], cause), default="")

    @property
    def event_success_rate(self) -> float | None:
        """The share of the events that ended which were delivered, 0 to 1; None before the first. An
        event ended if it was delivered, is dead, or was dropped."""
        return share(self.delivered, self.dead + sum(self.dropped.values()))

    @property
    def success_rate(self) -> float | None:
        """The share of the attempts that succeeded, 0 to 1; None before the first."""
        return share(self.delivered, self.failed_attempts)

    @property
    def balance(self) -> int:
        """The number of accepted events that are not accounted for: zero at rest."""
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
    workers take and send events; None where that is not known. `outages` tells what cannot be written
    now. `problems` names files that could not be read: what only they would tell is missing."""

    data_dir: str
    running: bool
    serving: int | None = None
    version: int
    endpoints: list[EndpointStats]
    processes: list[ProcessStats] = []
    outages: dict[str, bool] = {}
    #: how often a worker was replaced
    worker_restarts: int = 0
    problems: list[str] = []

    @property
    def pending(self) -> int:
        """The number of events that are neither delivered nor given up, over all endpoints."""
        return sum(endpoint.pending for endpoint in self.endpoints)

    def endpoint(self, name: str) -> EndpointStats:
        """Return the statistics of the endpoint `name`. Raise KeyError for one that the engine does
        not know."""
        for endpoint in self.endpoints:
            if endpoint.name == name:
                return endpoint
        raise KeyError(name)


def share(good: int, bad: int) -> float | None:
    """Return the share of the good ones; None where there are none of either."""
    return good / (good + bad) if good or bad else None


def read_stats(data_dir: str | os.PathLike[str]) -> Stats:
    """Return the figures of the engine of a data directory, whether it runs or not.

    Reading writes nothing. Files that cannot be read are named in `problems`, and what only they would
    tell is left out. Raises EngineNotRunning where none was ever started.
    """
    datadir = d.DataDir(data_dir)
    for _ in range(ATTEMPTS):
        reading = Reading(datadir)
        try:
            stats = reading.stats()
            if reading.is_of_one_version():
                break
        finally:
            reading.close()
    return stats


class Reading:
    """The files of a data directory, each opened once."""

    def __init__(self, datadir: d.DataDir) -> None:
        self.datadir = datadir
        self.problems: list[str] = []
        self._words: EngineWords | None = None
        self._counters: list[shared.Counters] = []
        if not datadir.words.exists() and not datadir.snapshot.exists():
            raise EngineNotRunning(f"no fluxhook engine was ever started on {datadir.path}")
        if datadir.words.exists():
            with self._noting():
                self._words = EngineWords(datadir.open_words(writable=False))
        else:
            self.problems.append(f"{datadir.words} is missing")
        self._version = self._version_now()
        self._snapshot: Snapshot | None = None
        try:
            self._snapshot = Snapshot.load(datadir)
        except EngineNotRunning:
            if not self._version:
                raise
            self.problems.append(f"{datadir.snapshot} is missing")
        except LayoutError as e:
            self.problems.append(str(e))
        config = None if self._snapshot is None else self._snapshot.config
        self._configured = {} if config is None else {e.name: e for e in config.endpoints}

    def close(self) -> None:
        for counters in self._counters:
            counters.close()
        if self._words is not None:
            self._words.close()

    def is_of_one_version(self) -> bool:
        """Return whether no change was published meanwhile: then ids and configuration fit each
        other."""
        if self._words is None or self._snapshot is None:
            return True
        return self._version == self._snapshot.version == self._version_now()

    def stats(self) -> Stats:
        # What was accepted first, then what waits in the order of its way, and what came of it last: so
        # that no event is missed in between. One that moves meanwhile may be counted twice.
        slots, workers = self.datadir.publisher_slots(), self.datadir.worker_folders()
        published = self._open(slots, "counters", d.PUBLISHER_FIELDS)
        worked = self._open(workers, "counters", d.WORKER_FIELDS)
        staged = self._open(workers, "stages", d.STAGE_FIELDS)
        sent = {id: _sum(published.values(), id, d.PUBLISHER_FIELDS) for id in self._ids()}
        applied = self._applied()
        pending: dict[int, int] = {}
        for folder in slots:
            for path in folder.glob("*.ring"):
                self._add_unsettled(pending, path, {})
        for folder in workers:
            self._add_unsettled(pending, folder / "outbox.ring", applied)
        stored = self._read_store()
        version = self._snapshot.version if self._snapshot is not None else self._version
        return Stats(
            data_dir=str(self.datadir.path),
            running=is_running(self.datadir),
            serving=None
            if self._snapshot is None
            else serving(self.datadir, self._snapshot.workers),
            version=version,
            endpoints=[
                self._endpoint(
                    row,
                    stored,
                    sent.get(row.id) or _sum(published.values(), row.id, d.PUBLISHER_FIELDS),
                    _sum(worked.values(), row.id, d.WORKER_FIELDS),
                    _stage_histograms(staged.values(), row.id),
                    pending.get(row.id, 0),
                )
                for row in self._in_force(stored.rows)
            ],
            processes=[
                *_processes("publisher", published, len(stored.rows)),
                *_processes("worker", worked, len(stored.rows)),
            ],
            outages={} if self._words is None else self._words.outages,
            worker_restarts=0 if self._words is None else self._words.worker_restarts,
            problems=self.problems,
        )

    def _ids(self) -> list[int]:
        return [] if self._snapshot is None else list(self._snapshot.ids.values())

    def _in_force(self, rows: list[EndpointRow]) -> list[EndpointRow]:
        """Return those in force, without those that are about to be published."""
        known = None if self._snapshot is None else self._snapshot.known
        return [row for row in rows if known is None or row.id < known]

    def _version_now(self) -> int:
        words = self._words
        return 0 if words is None else words.version

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """Make a line of a file that cannot be read: it is no reason not to show the others."""
        try:
            yield
        except OSError as e:
            self.problems.append(f"{e.filename or self.datadir.path} cannot be read: {e.strerror}")
        except EngineNotRunning:
            self.problems.append(f"{self.datadir.store} is missing or empty")
        except (FluxhookError, shared.LayoutMismatch) as e:
            self.problems.append(str(e))

    def _open(self, folders: list[Path], name: str, fields: int) -> dict[str, shared.Counters]:
        """Open those that are there, by the names of their folders."""
        found = {}
        for folder in folders:
            with self._noting():
                if (folder / name).exists():
                    opened = shared.Counters(str(folder / name), 0, fields, writable=False)
                    found[folder.name] = opened
                    self._counters.append(opened)
        return found

    def _add_unsettled(
        self, pending: dict[int, int], path: Path, applied: dict[bytes, int]
    ) -> None:
        with self._noting(), contextlib.suppress(FileNotFoundError):  # its publisher replaces it
            for endpoint_id, n in ring.unsettled(str(path), applied).items():
                pending[endpoint_id] = pending.get(endpoint_id, 0) + n

    def _applied(self) -> dict[bytes, int]:
        """Return up to where the store has each outbox already: what is behind that is not counted
        there."""
        with (
            contextlib.suppress(OSError, FluxhookError),
            ReadStore.open(self.datadir.store) as store,
        ):
            return store.positions()
        return {}  # `_read_store` says why

    def _read_store(self) -> _Stored:
        with self._noting(), ReadStore.open(self.datadir.store) as store, store.instant():
            rows, counters = store.endpoints(), store.counters()
            return _Stored(
                rows,
                counters,
                store.deaths(rows, counters),
                {endpoint for endpoint, _, _ in store.windows()},
                store.oldest_times_ns(),
                store.due_times_ns(),
                store.clock(),
            )
        ids = {} if self._snapshot is None else self._snapshot.ids
        words = self._words
        rows = [
            EndpointRow(
                id, name, None, "", 0, 0 if words is None else words.stored(id), 0,
                None, "", "",
            )
            for name, id in ids.items()
        ]  # fmt: skip
        return _Stored(sorted(rows), {}, {}, set(), {}, {}, Clock())

    def _endpoint(
        self,
        row: EndpointRow,
        stored: _Stored,
        sent: list[int],
        done: list[int],
        stage_histograms: dict[str, list[int]],
        queued: int,
    ) -> EndpointStats:
        configured = self._configured.get(row.name)
        counted, clock = stored.counters.get(row.id, {}), stored.clock
        words, now_ns = self._words, time.time_ns() - clock.offset_ns
        failing_ns = 0 if words is None else words.failing_ns(row.id)
        latency_ms = _percentiles(done[d.HISTOGRAM :])
        delivered = done[d.DELIVERED] + counted.get("delivered", 0)
        deaths = stored.deaths.get(row.id, Deaths({}, {}))
        health = _health(row, stored.oldest.get(row.id), delivered, done[d.FAILED])
        ahead = self._endpoint_state(row, configured, now_ns, health)
        return EndpointStats(
            id=row.id,
            name=row.name,
            url=configured.url if configured else "",
            state=ahead.state,
            accepted=sent[d.ACCEPTED] + counted.get("accepted", 0),
            delivered=delivered,
            dead=row.dead,
            dead_by_cause=deaths.dead,
            died_by_cause=deaths.died,
            aggregated=counted.get("aggregated", 0),
            dropped=_dropped(sent, done, counted),
            queued=queued,
            # A window's notification is pending from when it opens.
            stored=row.pending + (row.id in stored.windows),
            **_times_of_waiting(row.id, stored, ahead, now_ns),
            refused=sent[d.REFUSED],
            filtered=sent[d.FILTERED],
            unmetered=0 if words is None else words.unmetered(row.id),
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
            misconfigured_reason=self._held(row.name),
            paused=configured is not None and configured.paused,
        )

    def _held(self, name: str) -> str:
        return "" if self._snapshot is None else self._snapshot.held.get(name, "")

    def _endpoint_state(
        self, row: EndpointRow, configured: Endpoint | None, now_ns: int, health: Health
    ) -> EndpointState:
        if self._snapshot is None:
            return EndpointState("unknown")
        if row.disabled_ns is not None and configured is not None:
            return EndpointState("disabled")
        try:
            return endpoint_state(self._snapshot, configured, self._words, now_ns, health)
        except IllegalMove as e:
            self.problems.append(f"{self.datadir.words} is damaged: {e}")
            return EndpointState("unknown")


class _Stored(NamedTuple):
    """What the store says."""

    rows: list[EndpointRow]
    counters: dict[int, dict[str, int]]
    deaths: dict[int, Deaths]
    windows: set[int]
    oldest: dict[int, int]
    due: dict[int, int]
    clock: Clock


def _health(row: EndpointRow, oldest_ns: int | None, delivered: int, failed: int) -> Health:
    """Return what store and counters know; `oldest_ns` is when the oldest that waits was accepted."""
    return Health(
        delivered=delivered,
        failed_attempts=failed,
        last_cause=row.failed_cause,
        waits_since=oldest_ns is not None and oldest_ns <= (row.failed_ns or 0),
    )


def _times_of_waiting(
    id: int, stored: _Stored, ahead: EndpointState, now_ns: int
) -> dict[str, Any]:
    """Return the fields that say since when deliveries wait, and until when."""
    clock, oldest_ns, due_ns = stored.clock, stored.oldest.get(id), stored.due.get(id)
    next_ns = None if due_ns is None else ahead.next_ns(due_ns, now_ns)
    return {
        "oldest_pending_ns": oldest_ns,
        "oldest_pending_age_ns": 0 if oldest_ns is None else clock.age_ns(oldest_ns, now_ns),
        "past_due_ns": 0 if due_ns is None else ahead.past_due_ns(due_ns, now_ns),
        "next_retry_ns": None if next_ns is None else clock.wall_ns(next_ns),
        "next_probe_ns": None if ahead.probe_ns is None else clock.wall_ns(ahead.probe_ns),
    }


def is_running(datadir: d.DataDir) -> bool:
    """Return whether an engine holds the data directory. Write nothing."""
    return d.is_locked(datadir.engine_lock)


def serving(datadir: d.DataDir, workers: int) -> int:
    """Return how many of the workers take and send events."""
    return sum(d.is_locked(datadir.serving(index)) for index in range(workers))


def _sum(counters: Iterable[shared.Counters], row: int, fields: int) -> list[int]:
    rows = [c.row(row) for c in counters if row < c.rows]
    return [sum(column) for column in zip(*rows, strict=True)] if rows else [0] * fields


def _stage_histograms(staged: Iterable[shared.Counters], row: int) -> dict[str, list[int]]:
    """Return those in which something is, summed over the workers."""
    rows = [counters.row(row) for counters in staged if row < counters.rows]
    found = {}
    for i, name in enumerate(d.STAGES):
        first = i * shared.HISTOGRAM_BUCKETS
        parts = [row[first : first + shared.HISTOGRAM_BUCKETS] for row in rows]
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


def _dropped(sent: list[int], done: list[int], counted: Mapping[str, int]) -> dict[str, int]:
    """Return how many were dropped, by cause: by publishers, by workers, and by the scheduler."""
    dropped = {"oldest": sent[d.DROPPED_OLDEST], "expired": done[d.DROPPED_EXPIRED]}
    for name, n in counted.items():
        if name.startswith("dropped."):
            cause = name.removeprefix("dropped.")
            dropped[cause] = dropped.get(cause, 0) + n
    return {cause: n for cause, n in dropped.items() if n}


def _reuse(done: list[int]) -> float | None:
    requests = sum(done[d.HISTOGRAM :]) + done[d.FAILED_REQUESTS]
    return 1 - done[d.CONNECTED] / requests if requests else None


def _processes(
    role: Literal["publisher", "worker"], counters: dict[str, shared.Counters], endpoints: int
) -> list[ProcessStats]:
    found = []
    for name, file in counters.items():
        rows = range(min(endpoints, file.rows))
        total = [sum(column) for column in zip(*map(file.row, rows), strict=True)]
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
        name: shared.bucket_limit_us(bisect_left(up_to, share * up_to[-1])) / 1000
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }

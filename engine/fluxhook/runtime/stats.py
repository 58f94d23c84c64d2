"""What an engine has done and what it still owes, per endpoint, read from its files.

Reading stops nobody. While events flow the figures are of slightly different moments; at rest they
are exact, and

    accepted = delivered + dead + dropped + pending

where each side is counted on its own: `pending` is not the difference, but what rings and store hold.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from fluxhook._native import ring
from fluxhook.policy import breaker
from fluxhook.runtime.snapshot import Snapshot
from fluxhook.store import ReadStore
from fluxhook.transport import datadir as d

__all__ = ["EndpointStats", "Stats", "read_stats"]


class EndpointStats(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint. `dropped` says by which policy; `refused` (the ring was full) and `filtered` (by
    `where`, `sample` or `threshold`) were never accepted. `unmetered` were forwarded although there
    was no room to count them for a threshold.

    `state` is active, paused, disabled, open, half-open or removed. Latencies are of successful
    attempts, in milliseconds, to within half of their value; None before the first.
    """

    id: int
    name: str
    url: str
    state: str
    accepted: int = 0
    delivered: int = 0
    dead: int = 0
    dropped: dict[str, int] = {}
    pending: int = 0
    refused: int = 0
    filtered: int = 0
    unmetered: int = 0
    failed_attempts: int = 0
    #: requests that libcurl sent again by itself, after a kept-alive connection turned out closed
    resent: int = 0
    skipped: int = 0
    signature_rejections: int = 0
    size_rejections: int = 0
    latency_ms: dict[str, float] | None = None

    @property
    def balance(self) -> int:
        """Zero if every accepted event is accounted for."""
        return (
            self.accepted - self.delivered - self.dead - sum(self.dropped.values()) - self.pending
        )


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """A whole engine. `running` tells whether its processes are there."""

    data_dir: str
    running: bool
    version: int
    endpoints: list[EndpointStats]

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
    worked = _counters(sorted(datadir.workers.iterdir()))
    pending: dict[int, int] = {}
    for path in [*datadir.rings.glob("*/*.ring"), *datadir.workers.glob("*/outbox.ring")]:
        with contextlib.suppress(FileNotFoundError):  # an empty one that its publisher replaces
            for endpoint_id, n in ring.unsettled(str(path)).items():
                pending[endpoint_id] = pending.get(endpoint_id, 0) + n
    with ReadStore.open(datadir.store) as store:
        rows = store.endpoints()
        stored = store.counters()
    configured = {e.name: e for e in snapshot.config.endpoints}
    endpoints = []
    try:
        for row in rows:
            endpoint = configured.get(row.name)
            if endpoint is None:
                state = "removed"
            elif row.disabled_ns is not None:
                state = "disabled"
            elif endpoint.paused:
                state = "paused"
            else:
                state = _STATES[breaker.unpack(words.load(row.id, d.BREAKER)).name]
            counted = stored.get(row.id, {})
            done = _sum(worked, row.id)
            sent = _sum(published, row.id)
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
                    accepted=sent[d.ACCEPTED],
                    delivered=done[d.DELIVERED] + counted.get("delivered", 0),
                    dead=row.dead,
                    dropped={cause: n for cause, n in dropped.items() if n},
                    pending=pending.get(row.id, 0) + row.pending,
                    refused=sent[d.REFUSED],
                    filtered=sent[d.FILTERED],
                    unmetered=words.load(row.id, d.UNMETERED),
                    failed_attempts=done[d.FAILED],
                    resent=done[d.RESENT],
                    skipped=done[d.SKIPPED],
                    signature_rejections=done[d.SIGNATURE_REJECTED],
                    size_rejections=done[d.SIZE_REJECTED],
                    latency_ms=_percentiles(done[d.HISTOGRAM :]),
                )
            )
    finally:
        words.close()
        for counters in (*published, *worked):
            counters.close()
    return Stats(
        data_dir=str(datadir.path),
        running=is_running(datadir),
        version=snapshot.version,
        endpoints=endpoints,
    )


_STATES = {"closed": "active", "open": "open", "half_open": "half-open"}


def is_running(datadir: d.DataDir) -> bool:
    """Whether an engine holds the data directory."""
    try:
        d.FileLock(datadir.engine_lock).release()
    except BlockingIOError:
        return True
    return False


def _counters(folders: list[Path]) -> list[ring.Counters]:
    return [
        ring.Counters(str(folder / "counters"), writable=False)
        for folder in folders
        if (folder / "counters").exists()
    ]


def _sum(counters: list[ring.Counters], row: int) -> list[int]:
    rows = [c.row(row) for c in counters]
    return [sum(column) for column in zip(*rows, strict=True)] if rows else [0] * d.WORKER_FIELDS


def _percentiles(buckets: list[int]) -> dict[str, float] | None:
    total = sum(buckets)
    if not total:
        return None
    result: dict[str, float] = {}
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        rank, seen = share * total, 0
        for bucket, n in enumerate(buckets):
            seen += n
            if seen >= rank:
                result[name] = ring.bucket_limit_us(bucket) / 1000
                break
    return result

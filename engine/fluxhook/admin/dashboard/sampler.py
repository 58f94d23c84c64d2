"""The last minutes: rates and latencies between samples of the counters, shared by all who look.

Nobody samples by himself: a page that asks gets the sample that there is, or has a new one taken where
that is too old. So while nobody looks, nothing is read.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

from fluxhook._native import shared
from fluxhook.admin.models import Status
from fluxhook.admin.views import status_view
from fluxhook.stats import EndpointStats, Stats

__all__ = ["HISTORY_S", "INTERVAL_S", "Counts", "Point", "Sampler", "percentiles", "rates"]

#: between two samples
INTERVAL_S: Final = 2.0
#: of samples that are kept
HISTORY_S: Final = 300.0
#: without a sample for so long, a line is interrupted instead of averaged over
GAP_S: Final = 5 * INTERVAL_S


class Counts(NamedTuple):
    """Counters of one moment; `histogram` counts successful attempts by latency."""

    accepted: int
    delivered: int
    failed: int
    pending: int
    histogram: Sequence[int]


class Point(NamedTuple):
    """What happened until `at_ms` (since the epoch). Rates are per second, latencies in milliseconds;
    None where nothing can be said."""

    at_ms: int
    accepted: float | None
    delivered: float | None
    failed: float | None
    pending: int | None
    p50: float | None
    p95: float | None
    p99: float | None


class Sampler:
    """Samples of one engine's counters. For tasks of one event loop."""

    def __init__(
        self,
        read: Callable[[], Stats],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Take samples by a `clock` that nobody sets; what is shown is dated by the one on the
        `wall`."""
        self._read = read
        self._clock = clock
        self._wall = wall
        self._lock = asyncio.Lock()
        self._taken_at = 0.0
        self._stats: Stats | None = None
        self._fresh = False
        #: the counters of the latest points, and when they were read
        self._drawn: dict[int | None, Counts] = {}
        self._drawn_at = 0.0
        #: by endpoint; None: all of them
        self._lines: dict[int | None, deque[Point]] = {}
        self._asked: dict[int | None, float] = {}

    async def stats(self) -> Stats:
        """Return a sample that is no older than the interval. Raise what `read_stats` raises."""
        async with self._lock:
            stats = self._stats
            age_s = self._clock() - self._taken_at
            if stats is None or not self._fresh or not 0 <= age_s < 0.9 * INTERVAL_S:
                stats = await asyncio.to_thread(self._read)
                self._taken_at = self._clock()
                self._stats, self._fresh = stats, True
                self._extend(stats)
            return stats

    async def status(self) -> Status:
        """Return the same as the API shows it."""
        stats = await self.stats()
        return status_view(stats, int((self._taken_at + self._ahead_s()) * 1e9))

    def expire(self) -> None:
        """Make the next question take a new sample: something was changed."""
        self._fresh = False

    def line(self, endpoint: int | None = None) -> list[Point]:
        """Return the points of an endpoint, or of all together; a line begins when it is first asked
        for."""
        self._asked[endpoint] = self._clock()
        line = self._lines.setdefault(endpoint, deque(maxlen=int(HISTORY_S / INTERVAL_S)))
        ahead_ms = int(self._ahead_s() * 1000)
        return [point._replace(at_ms=point.at_ms + ahead_ms) for point in line]

    def _ahead_s(self) -> float:
        """Return by how much the clock on the wall is ahead."""
        return self._wall() - self._clock()

    def _extend(self, stats: Stats) -> None:
        elapsed_s = self._taken_at - self._drawn_at
        if 0 <= elapsed_s < INTERVAL_S / 2:
            return  # a sample out of turn: a rate over so short a time says nothing
        old, new = self._drawn, _counts(stats)
        self._drawn, self._drawn_at = new, self._taken_at
        at_ms = int(self._taken_at * 1000)
        for endpoint in list(self._lines):
            if endpoint is not None and self._taken_at - self._asked[endpoint] > HISTORY_S:
                del self._lines[endpoint], self._asked[endpoint]
        self._lines.setdefault(None, deque(maxlen=int(HISTORY_S / INTERVAL_S)))
        for endpoint, line in self._lines.items():
            if endpoint not in new:
                continue
            if endpoint in old and 0 < elapsed_s <= GAP_S:
                line.append(rates(old[endpoint], new[endpoint], elapsed_s, at_ms))
            else:
                line.append(Point(at_ms, None, None, None, new[endpoint].pending, None, None, None))
            while line[0].at_ms < at_ms - HISTORY_S * 1000:
                line.popleft()


def rates(old: Counts, new: Counts, elapsed_s: float, at_ms: int) -> Point:
    """Return what happened between two samples."""

    def rate(before: int, after: int) -> float:
        return round(max(0, after - before) / elapsed_s, 2)

    passed = [a - b for a, b in zip_longest(new.histogram, old.histogram, fillvalue=0)]
    p50, p95, p99 = percentiles(passed)
    return Point(
        at_ms,
        rate(old.accepted, new.accepted),
        rate(old.delivered, new.delivered),
        rate(old.failed, new.failed),
        new.pending,
        p50,
        p95,
        p99,
    )


def percentiles(histogram: Sequence[int]) -> tuple[float | None, float | None, float | None]:
    """Return upper limits of p50, p95 and p99 in milliseconds; None where nothing was counted."""
    total = sum(histogram)
    if total <= 0:
        return None, None, None
    found = []
    for share in (0.5, 0.95, 0.99):
        seen = 0
        for bucket, n in enumerate(histogram):
            seen += n
            if seen >= share * total:
                found.append(shared.bucket_limit_us(bucket) / 1000)
                break
    return found[0], found[1], found[2]


def _counts(stats: Stats) -> dict[int | None, Counts]:
    counts: dict[int | None, Counts] = {one.id: _of(one) for one in stats.endpoints}
    every = list(counts.values())
    counts[None] = Counts(
        sum(one.accepted for one in every),
        sum(one.delivered for one in every),
        sum(one.failed for one in every),
        sum(one.pending for one in every),
        [sum(column) for column in zip_longest(*(c.histogram for c in every), fillvalue=0)],
    )
    return counts


def _of(one: EndpointStats) -> Counts:
    return Counts(one.accepted, one.delivered, one.failed_attempts, one.pending, one.histogram)

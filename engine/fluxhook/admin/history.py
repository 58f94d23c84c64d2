"""The last hour of an engine: a point every ten seconds, of each endpoint and of all together.

Pure: what happened between two readings of the counters, and the points that are kept. A point takes 40
bytes, so an hour of one endpoint has 14 KB, and that of MAX_ENDPOINTS 15 MB.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from fluxhook._native import shared
from fluxhook.stats import EndpointStats, Stats

__all__ = [
    "GAP_S",
    "HISTORY_S",
    "INTERVAL_S",
    "MAX_ENDPOINTS",
    "MAX_FRAMES",
    "RECORD_BYTES",
    "Counts",
    "Frame",
    "Frames",
    "Point",
    "counts_of",
    "percentiles",
    "rates",
]

#: between two points
INTERVAL_S: Final = 10.0
#: of points that are kept
HISTORY_S: Final = 3600.0
#: without a reading for so long, nothing is said of the time between: no line is drawn over it
GAP_S: Final = 2.5 * INTERVAL_S
#: endpoints that have a history, those with the lowest ids; the others are in that of all together
MAX_ENDPOINTS: Final = 1000
#: and one at either end of the hour
MAX_FRAMES: Final = int(HISTORY_S / INTERVAL_S) + 1

#: an endpoint's id, and the figures of a `Point`; NaN where nothing can be said
_RECORD: Final = struct.Struct("<i9f")
RECORD_BYTES: Final = _RECORD.size
_ID: Final = struct.Struct("<i")
_PENDING: Final = 4
#: stands for all endpoints together, and comes first
_ALL: Final = -1


class Counts(NamedTuple):
    """Counters of one moment; `histogram` counts successful attempts by latency."""

    accepted: int
    delivered: int
    failed: int
    died: int
    pending: int
    past_due_s: float
    histogram: Sequence[int]


class Point(NamedTuple):
    """What happened until `at_s`. Rates are per second, latencies in milliseconds; None where nothing
    can be said."""

    at_s: float
    accepted: float | None = None
    delivered: float | None = None
    failed: float | None = None
    dead: float | None = None
    pending: int | None = None
    past_due_s: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class Frame(NamedTuple):
    """The points of one moment, as they are kept: records in the order of their ids."""

    at_s: float
    records: bytes


class Frames:
    """The frames of the last hour. Times are seconds of a clock that nobody sets."""

    def __init__(self, frames: Iterable[Frame] = ()) -> None:
        self._frames: deque[Frame] = deque(frames, maxlen=MAX_FRAMES)

    def add(self, at_s: float, points: Mapping[int | None, Point]) -> Frame:
        """Keep the points of a moment, by endpoint; None stands for all together."""
        frame = Frame(at_s, b"".join(_records(points)))
        self._frames.append(frame)
        while self._frames[0].at_s < at_s - HISTORY_S:
            self._frames.popleft()
        return frame

    def line(self, endpoint: int | None, since_s: float = -math.inf) -> list[Point]:
        """Return the points of an endpoint, or of all together, the earliest first."""
        id = _ALL if endpoint is None else endpoint
        found = (_find(frame, id) for frame in self._frames if frame.at_s >= since_s)
        return [point for point in found if point is not None]


def rates(old: Counts | None, new: Counts, elapsed_s: float, at_s: float) -> Point:
    """Return what happened between two readings.

    Without the first, over a gap, and where a counter was made anew meanwhile, nothing can be said but
    what holds at this moment.
    """
    now = Point(at_s, pending=new.pending, past_due_s=new.past_due_s)
    if old is None or not 0 < elapsed_s <= GAP_S:
        return now
    accepted = new.accepted - old.accepted
    delivered = new.delivered - old.delivered
    failed = new.failed - old.failed
    took = [a - b for a, b in zip_longest(new.histogram, old.histogram, fillvalue=0)]
    died = new.died - old.died
    if min(accepted, delivered, failed, died, *took) < 0:
        return now
    p50, p95, p99 = percentiles(took)
    return now._replace(
        accepted=accepted / elapsed_s,
        delivered=delivered / elapsed_s,
        failed=failed / elapsed_s,
        dead=died / elapsed_s,
        p50=p50,
        p95=p95,
        p99=p99,
    )


def percentiles(histogram: Sequence[int]) -> tuple[float | None, float | None, float | None]:
    """Return p50, p95 and p99 in milliseconds; None where nothing was counted.

    Within a bucket the attempts are taken to lie evenly.
    """
    total = sum(histogram)
    if total <= 0:
        return None, None, None
    p50, p95, p99 = (_at_rank(histogram, share * total) for share in (0.5, 0.95, 0.99))
    return p50, p95, p99


def _at_rank(histogram: Sequence[int], rank: float) -> float:
    seen, below_us = 0, 0
    for bucket, n in enumerate(histogram):
        limit_us = shared.bucket_limit_us(bucket)
        if seen + n >= rank and n:
            return (below_us + (limit_us - below_us) * (rank - seen) / n) / 1000
        seen, below_us = seen + n, limit_us
    raise AssertionError("no rank is above the sum")


def counts_of(stats: Stats) -> dict[int | None, Counts]:
    """Return the counters of each endpoint that has a history, and of all together."""
    every = [_of(one) for one in stats.endpoints]
    counts: dict[int | None, Counts] = {
        None: Counts(
            sum(one.accepted for one in every),
            sum(one.delivered for one in every),
            sum(one.failed for one in every),
            sum(one.died for one in every),
            sum(one.pending for one in every),
            max((one.past_due_s for one in every), default=0.0),
            [sum(column) for column in zip_longest(*(c.histogram for c in every), fillvalue=0)],
        )
    }
    present = sorted(
        (one.id, counted)
        for one, counted in zip(stats.endpoints, every, strict=True)
        if one.state != "removed"
    )
    return counts | dict(present[:MAX_ENDPOINTS])


def _of(one: EndpointStats) -> Counts:
    return Counts(
        one.accepted,
        one.delivered,
        one.failed_attempts,
        sum(one.died_by_cause.values()),
        one.pending,
        one.past_due_ns / 1e9,
        one.histogram,
    )


def _records(points: Mapping[int | None, Point]) -> Iterator[bytes]:
    for id, point in sorted((_ALL if id is None else id, p) for id, p in points.items()):
        yield _RECORD.pack(id, *(math.nan if value is None else value for value in point[1:]))


def _find(frame: Frame, id: int) -> Point | None:
    records, n = frame.records, len(frame.records) // RECORD_BYTES
    i = bisect_left(range(n), id, key=lambda i: _ID.unpack_from(records, i * RECORD_BYTES)[0])
    if i == n:
        return None
    found, *values = _RECORD.unpack_from(records, i * RECORD_BYTES)
    if found != id:
        return None
    # Six digits are what a float of four bytes has.
    known: list[Any] = [None if math.isnan(v) else float(f"{v:.6g}") for v in values]
    known[_PENDING] = None if math.isnan(values[_PENDING]) else int(values[_PENDING])
    return Point(frame.at_s, *known)

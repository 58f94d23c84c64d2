"""What is said of the time between two readings of the counters, and what is kept of it."""

from __future__ import annotations

import math

import pytest

from fluxhook.admin.history import (
    GAP_S,
    HISTORY_S,
    INTERVAL_S,
    MAX_ENDPOINTS,
    MAX_FRAMES,
    Counts,
    Frames,
    Point,
    counts_of,
    percentiles,
    rates,
)
from fluxhook.stats import EndpointStats, Stats


def counts(
    accepted: int, delivered: int, failed: int, histogram: list[int], died: int = 0
) -> Counts:
    return Counts(accepted, delivered, failed, died, 3, 1.5, histogram)


def test_rates_are_per_second_of_what_passed() -> None:
    """Latencies are of the attempts between the readings, not of all that ever were."""
    old = counts(100, 90, 1, [90, 0, 0, 0], died=5)
    new = counts(120, 100, 2, [90, 0, 0, 10], died=7)
    point = rates(old, new, 2.0, 5.0)
    assert point[:7] == (5.0, 10.0, 5.0, 0.5, 1.0, 3, 1.5)
    assert point[7:] == pytest.approx((0.004, 0.0049, 0.00498))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (counts(9, 9, 9, [9]), counts(1, 9, 9, [9])),
        (counts(9, 9, 9, [9]), counts(20, 1, 9, [9])),
        (counts(9, 9, 9, [9]), counts(20, 20, 1, [9])),
        (counts(9, 9, 9, [9, 0]), counts(20, 20, 20, [1, 8])),
        (counts(9, 9, 9, [9], died=9), counts(20, 20, 20, [9], died=8)),
    ],
)
def test_a_counter_that_was_made_anew_says_nothing(old: Counts, new: Counts) -> None:
    """No rate is negative, as nobody knows what passed; what waits is known all the same."""
    assert rates(old, new, 10.0, 5.0) == Point(5.0, pending=3, past_due_s=1.5)


@pytest.mark.parametrize("elapsed_s", [0.0, -3.0, GAP_S + 0.1])
def test_nothing_is_said_of_a_gap(elapsed_s: float) -> None:
    """Nor where no time passed, or a clock went back."""
    old, new = counts(0, 0, 0, []), counts(9, 9, 9, [9])
    assert rates(old, new, elapsed_s, 5.0).accepted is None
    assert rates(None, new, 1.0, 5.0).accepted is None


def test_percentiles_are_interpolated_within_their_bucket() -> None:
    """The limits are 1, 2, 3, 5 and 7 microseconds; of a hundred between 5 and 7 the half is at 6."""
    assert percentiles([0, 0, 0, 0, 100]) == pytest.approx((0.006, 0.0069, 0.00698))
    assert percentiles([98, 1, 1]) == pytest.approx((50 / 98 / 1000, 95 / 98 / 1000, 0.002))
    assert percentiles([1]) == pytest.approx((0.0005, 0.00095, 0.00099))
    assert percentiles([]) == percentiles([0, 0]) == (None, None, None)


def test_an_hour_is_kept() -> None:
    """Of each endpoint and of all together, with the digits that matter; no more frames, however many
    are made, and none that is older."""
    frames = Frames()
    point = Point(0.0, 1 / 3, None, 0.0, None, 16_000_001, None, 1234.5678, None, None)
    for i in range(2 * MAX_FRAMES):
        at_s = i * INTERVAL_S
        frames.add(at_s, {7: point._replace(at_s=at_s), None: Point(at_s, pending=i)})
    line = frames.line(7)
    assert len(line) == len(frames.line(None)) == MAX_FRAMES
    assert line[-1].at_s - line[0].at_s == HISTORY_S
    assert line[0] == Point(
        line[0].at_s, 0.333333, None, 0.0, None, 16_000_001, None, 1234.57, None, None
    )
    assert frames.line(None)[-1].pending == 2 * MAX_FRAMES - 1
    assert frames.line(6) == frames.line(8) == []
    assert len(frames.line(7, line[-3].at_s)) == 3
    frames.add(1e9, {None: Point(1e9)})
    assert frames.line(7) == []


def test_an_endpoints_line_begins_with_it() -> None:
    """Before, nothing is said of it."""
    frames = Frames()
    frames.add(1.0, {None: Point(1.0), 0: Point(1.0), 2: Point(1.0)})
    frames.add(2.0, {None: Point(2.0), 0: Point(2.0), 1: Point(2.0), 2: Point(2.0)})
    assert [point.at_s for point in frames.line(1)] == [2.0]
    assert [point.at_s for point in frames.line(2)] == [1.0, 2.0]


def stats(*endpoints: EndpointStats) -> Stats:
    return Stats(data_dir="", running=True, version=1, endpoints=list(endpoints))


def test_all_together_has_every_endpoint() -> None:
    """Also the removed ones, so that its counters never fall, and those beyond the limit; those with
    the lowest ids have a history of their own."""
    many = [
        EndpointStats(id=id, name=str(id), url="", state="active", accepted=1, histogram=[id % 2])
        for id in range(MAX_ENDPOINTS + 5)
    ]
    removed = EndpointStats(id=5000, name="gone", url="", state="removed", accepted=1)
    found = counts_of(stats(removed, *reversed(many)))
    every = found.pop(None)
    assert (every.accepted, list(every.histogram)) == (MAX_ENDPOINTS + 6, [MAX_ENDPOINTS // 2 + 2])
    assert found.keys() == set(range(MAX_ENDPOINTS))
    assert counts_of(stats())[None].histogram == []


def test_an_hour_of_many_endpoints_is_small() -> None:
    """40 bytes for a point: 15 MB for the most endpoints that have a history."""
    frame = Frames().add(0.0, {id: Point(0.0) for id in (None, *range(MAX_ENDPOINTS))})
    assert len(frame.records) * MAX_FRAMES < 15e6
    assert not math.isnan(frame.at_s)

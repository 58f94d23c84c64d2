"""Rates and latencies between two samples, and who takes them."""

from __future__ import annotations

import asyncio
from typing import Any

from fluxhook.admin.dashboard.sampler import (
    GAP_S,
    HISTORY_S,
    INTERVAL_S,
    Counts,
    Sampler,
    percentiles,
    rates,
)
from fluxhook.stats import EndpointStats, Stats


def counts(accepted: int, delivered: int, failed: int, histogram: list[int]) -> Counts:
    return Counts(accepted, delivered, failed, 3, histogram)


def test_rates_are_per_second_of_what_passed() -> None:
    """Latencies are of the attempts between the samples, not of all that ever were."""
    old = counts(100, 90, 1, [90, 0, 0, 0])
    new = counts(120, 100, 2, [90, 0, 0, 10])
    point = rates(old, new, 2.0, 5)
    assert (point.accepted, point.delivered, point.failed, point.pending) == (10.0, 5.0, 0.5, 3)
    assert point.p50 == point.p99 == 0.005


def test_where_nothing_passed_there_is_no_latency() -> None:
    """A rate is 0 then; also where a data directory was made anew and the counters fell."""
    point = rates(counts(9, 9, 9, [9]), counts(1, 1, 1, [1]), 2.0, 5)
    assert (point.accepted, point.p50) == (0.0, None)


def test_percentiles_are_upper_limits() -> None:
    """Of the bucket in which the rank lies."""
    assert percentiles([98, 1, 1]) == (0.001, 0.001, 0.002)
    assert percentiles([]) == (None, None, None)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Engine:
    """Stands for the counters: each sample has accepted ten more."""

    reads = 0

    def __call__(self) -> Stats:
        self.reads += 1
        one = EndpointStats(id=0, name="a", url="", state="active", accepted=10 * self.reads)
        return Stats(data_dir="", running=True, version=1, endpoints=[one])


def test_all_who_look_share_one_sample() -> None:
    """Those who ask within an interval get the one that there is; nobody asks, nothing is read."""
    engine, clock = Engine(), Clock()
    sampler = Sampler(engine, clock)

    async def look() -> None:
        await asyncio.gather(*(sampler.stats() for _ in range(5)))
        assert engine.reads == 1
        clock.now += INTERVAL_S
        await asyncio.gather(*(sampler.status() for _ in range(5)))
        assert engine.reads == 2
        sampler.expire()
        await sampler.stats()
        assert engine.reads == 3

    asyncio.run(look())


def test_a_clock_that_is_set_moves_the_whole_line() -> None:
    """Rates are of the time that passed; all points are dated by the clock as it is now."""
    engine, clock, wall = Engine(), Clock(), Clock()
    sampler = Sampler(engine, clock, wall)

    async def look() -> None:
        for step_s in (0.0, -3600.0, 90_000.0):
            clock.now += INTERVAL_S
            wall.now += INTERVAL_S + step_s
            await sampler.stats()
        line = sampler.line()
        assert [point.at_ms for point in line] == [
            int((wall.now - n * INTERVAL_S) * 1000) for n in (2, 1, 0)
        ]
        assert [point.accepted for point in line[1:]] == [10 / INTERVAL_S] * 2

    asyncio.run(look())


def test_a_line_has_the_last_minutes() -> None:
    """A pause interrupts it; what is too old falls off; an endpoint's begins when it is asked for."""
    engine, clock = Engine(), Clock()
    sampler = Sampler(engine, clock)

    async def sample(after_s: float) -> Any:
        clock.now += after_s
        await sampler.stats()
        return sampler.line()[-1].accepted

    async def look() -> None:
        assert await sample(0) is None
        assert await sample(INTERVAL_S) == 10 / INTERVAL_S
        assert sampler.line(0) == []
        assert await sample(GAP_S + 1) is None
        assert await sample(INTERVAL_S) == 10 / INTERVAL_S
        assert len(sampler.line(0)) == 2
        assert len(sampler.line()) == 4
        await sample(HISTORY_S)
        assert len(sampler.line()) == 2

    asyncio.run(look())

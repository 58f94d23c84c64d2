"""A bit that changes in the shared words, which no checksum covers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from damage.examine import logged
from fluxhook import Duration, Endpoint, Rate
from fluxhook.transport import datadir as d
from support.scheduler_harness import HOUR, S, SchedulerHarness

LIMITED = Endpoint(
    name="ops",
    url="https://a.example/",
    signature="none",
    rate_limit=Rate.parse("1/s burst 10"),
    disable_after=Duration.parse("24h"),
)


@pytest.mark.parametrize("bit", [63, 62, 61, 60, 59, 58])
@pytest.mark.parametrize(("word", "said"), [(d.RATE, "rate limit"), (d.FAILING, "has failed")])
def test_a_time_that_cannot_be_is_cleared(tmp_path: Path, word: int, said: str, bit: int) -> None:
    """With a line that names the endpoint: it neither holds the endpoint nor disables it."""
    with SchedulerHarness(tmp_path / "data", LIMITED) as harness:
        now_ns = harness.supervisor.clock.now_ns()
        flipped = (now_ns - S) ^ 1 << bit
        harness.words.store(0, word, flipped)
        with logged() as lines:
            harness.reopen()
        if word == d.RATE and flipped < now_ns:  # the same as none
            assert not lines
        else:
            assert [line for line in lines if "endpoint ops" in line and said in line]
            assert harness.words.load(0, word) == 0


def test_a_breaker_that_cannot_be_begins_anew(tmp_path: Path) -> None:
    """As one of an endpoint that does not fail, or no success would end that."""
    with SchedulerHarness(tmp_path / "data", LIMITED) as harness:
        harness.words.store(0, d.BREAKER, 1 << 63)
        harness.words.store(0, d.FAILING, harness.supervisor.clock.now_ns() - S)
        harness.reopen()
        assert [harness.words.load(0, word) for word in (d.BREAKER, d.FAILING)] == [0, 0]


def test_times_that_can_be_stay(tmp_path: Path) -> None:
    """The limit's own allowance that was used up, and a failure that began a month ago."""
    with SchedulerHarness(tmp_path / "data", LIMITED) as harness:
        now_ns = harness.supervisor.clock.now_ns()
        words = {d.RATE: now_ns + 9 * S, d.FAILING: now_ns - 30 * 24 * HOUR}
        for word, value in words.items():
            harness.words.store(0, word, value)
        with logged() as lines:
            harness.reopen()
        assert not lines
        assert {word: harness.words.load(0, word) for word in words} == words


def test_what_a_former_worker_could_not_build_is_built_anew(tmp_path: Path) -> None:
    """The word is of the engine before, or damaged: it holds nobody."""
    with SchedulerHarness(tmp_path / "data", LIMITED) as harness:
        harness.words.store(0, d.UNBUILT, 1 << 40)
        harness.reopen()
        harness.supervisor.housekeep(time.monotonic())
        assert not harness.supervisor.snapshot.held

"""A worker sleeps until the doorbell rings, or looks by the clock, and sends for some first."""

from __future__ import annotations

import os
import select
from contextlib import ExitStack
from pathlib import Path

import pytest

from fluxhook import Endpoint
from fluxhook.publisher.publisher import Publisher
from fluxhook.transport.datadir import quiet_doorbell
from fluxhook.worker.adaptive_polling import BUSY, CALM, LOOK_S, AdaptivePolling
from fluxhook.worker.worker import IDLE_WAIT_S, Worker
from support.scheduler_harness import SchedulerHarness

MS = 1_000_000
S = 1000 * MS
#: a time at which nothing was counted yet
BEGIN = 1000 * S


@pytest.mark.parametrize(
    ("rates", "busy"),
    [
        ((BUSY,), True),
        ((BUSY - 100,), False),
        ((BUSY, CALM), True),
        ((BUSY, CALM - 100), False),
        ((BUSY, CALM - 100, BUSY - 100), False),
        ((), False),
    ],
)
def test_brisk_begins_at_one_rate_and_ends_at_a_lower(rates: tuple[int, ...], busy: bool) -> None:
    """So that a load between the two does not switch it all the time."""
    pace, now_ns = AdaptivePolling(), BEGIN
    pace.busy(now_ns)
    for rate in rates:
        now_ns += 10 * MS
        pace.note(rate // 100)
        pace.busy(now_ns)
    assert pace.busy(now_ns) == busy


def test_a_burst_after_silence_is_not_a_pace() -> None:
    """The rate since the last look counts, however long ago that was."""
    pace = AdaptivePolling()
    pace.busy(BEGIN)
    pace.note(100)
    assert not pace.busy(BEGIN + S)


def test_the_answer_stands_for_eight_milliseconds() -> None:
    """Within that time nothing changes it."""
    pace = AdaptivePolling()
    pace.busy(BEGIN)
    pace.note(1000)
    assert not pace.busy(BEGIN + 7 * MS)
    assert pace.busy(BEGIN + 8 * MS)
    assert pace.busy(BEGIN + 15 * MS)
    assert not pace.busy(BEGIN + 16 * MS)


def test_a_brisk_worker_spares_its_host_the_bell(tmp_path: Path) -> None:
    """It comes back by itself; a calm one sleeps for long, and an event rings for it."""
    harness = SchedulerHarness(
        tmp_path / "data", Endpoint(name="a", url="http://127.0.0.1:1/", signature="none")
    )
    reading, writing = os.pipe()
    try:
        with Publisher(harness.path) as publisher:
            worker = Worker(str(harness.path), 0, reading)

            def rings() -> bool:
                publisher.emit("x", {})
                return bool(select.select([worker.doorbell], [], [], 0)[0])

            now_ns = BEGIN
            worker.wait_s(now_ns, 0)
            for events, wait_s, rung in ((0, IDLE_WAIT_S, True), (20, LOOK_S, False)):
                for _ in range(events):
                    publisher.emit("x", {})
                worker.take(now_ns)
                now_ns += 10 * MS
                assert worker.wait_s(now_ns, 0) == wait_s
                assert rings() == rung
                assert worker.take(now_ns)
                if rung:
                    quiet_doorbell(worker.doorbell)
            worker.close()
    finally:
        harness.close()
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("order", [("busy", "quiet"), ("quiet", "busy")])
def test_one_publishers_few_do_not_wait_for_the_many_of_another(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    """They are under way before requests for the others are made, whichever attached first."""
    ends = [
        Endpoint(name=name, url="http://127.0.0.1:1/", events=(f"{name}.*",), signature="none")
        for name in order
    ]
    harness = SchedulerHarness(tmp_path / "data", *ends, event_types=("busy.x", "quiet.x"))
    reading, writing = os.pipe()
    try:
        with ExitStack() as stack:
            for name in order:
                publisher = stack.enter_context(Publisher(harness.path))
                for _ in range(20 if name == "busy" else 1):
                    publisher.emit(f"{name}.x", {})
            worker = Worker(str(harness.path), 0, reading)
            stack.callback(worker.close)
            assert worker.take(BEGIN)
            queues = {queue.endpoint.name: queue for queue in worker.dispatcher.queues.values()}
            assert (queues["quiet"].in_flight, len(queues["quiet"].waiting)) == (1, 0)
            assert (queues["busy"].in_flight, len(queues["busy"].waiting)) == (0, 20)
    finally:
        harness.close()
        os.close(reading)
        os.close(writing)

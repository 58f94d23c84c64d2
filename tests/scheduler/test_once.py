"""Nothing is delivered twice but what was in flight: a scheduler hands out nothing that a report will
settle which it has not read yet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluxhook import Endpoint
from fluxhook._native import ring
from fluxhook.publisher.publisher import Publisher
from fluxhook.scheduler import step_limits
from fluxhook.store import DeliveryStore, DeliveryTransaction, State, StoreError
from fluxhook.transport.datadir import FileLock
from support.scheduler_harness import HOUR, S, SchedulerHarness
from support.store_rows import deliveries

MAIN, OTHER = 0, 1
ENDS = tuple(
    Endpoint(name=name, url=f"https://{name}.example.com/", signature="none", concurrency=20)
    for name in ("main", "other")
)
#: deliveries of the store that the worker has in hand, and those of them that it does not finish
OUT, IN_FLIGHT = 100, 7
#: its reports about others, which stand before those about them: several transactions' worth
REPORTS = 3 * step_limits.DELIVERIES


class Worker:
    """The worker of a harness, with deliveries in hand."""

    def __init__(self, harness: SchedulerHarness) -> None:
        self.harness = harness
        for n in range(OUT):
            harness.reporter.report(harness.fresh(f"evt_{n}"), "parked", "paused")
        self.hand = harness.due()
        assert len(self.hand) == OUT

    def report_others(self, count: int = REPORTS) -> None:
        """None of which the scheduler has read when this returns."""
        for n in range(count):
            delivery = self.harness.fresh(f"other_{n}", endpoint=OTHER)
            self.harness.reporter.report(delivery, "delivered", "delivered")

    def deliver(self) -> list[int]:
        """Finish all but IN_FLIGHT; return the ids of these."""
        for delivery in self.hand[IN_FLIGHT:]:
            self.harness.reporter.report(delivery, "delivered", "delivered")
        return [delivery.id for delivery in self.hand[:IN_FLIGHT]]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SchedulerHarness]:
    with SchedulerHarness(tmp_path / "data", *ENDS, event_types=("order.paid",)) as harness:
        yield harness


def kill_scheduler(harness: SchedulerHarness, *endpoints: Endpoint) -> None:
    """The next engine finds everything as a killed scheduler left it."""
    harness.scheduler.close = harness.scheduler.events.close  # type: ignore[method-assign]
    harness.reopen(*endpoints)


def handed_out(harness: SchedulerHarness) -> list[int]:
    """The ids that go to the worker until the scheduler has nothing more to do."""
    found: list[int] = []
    while True:
        harness.wake_ns = harness.scheduler.step(harness.now_ns)
        found += [delivery.id for delivery in harness.take()]
        if not harness.scheduler.busy and harness.wake_ns > harness.now_ns:
            return sorted(found)


def states(harness: SchedulerHarness) -> Counter[int]:
    rows = deliveries(harness.store, endpoint=MAIN, limit=10 * OUT)
    return Counter(row.state for row in rows)


def test_a_new_scheduler_hands_out_what_was_in_flight_alone(harness: SchedulerHarness) -> None:
    """It reads all that was reported before it began, however much that is."""
    worker = Worker(harness)
    worker.report_others()
    left = worker.deliver()
    kill_scheduler(harness)
    assert handed_out(harness) == left
    assert states(harness) == {State.WAITING: IN_FLIGHT, State.DELIVERED: OUT - IN_FLIGHT}


def test_reports_of_a_worker_that_is_no_more_are_read_first(harness: SchedulerHarness) -> None:
    """The engine before had more workers."""
    worker = Worker(harness)
    worker.report_others()
    left = worker.deliver()
    folder = harness.path / "workers"
    harness.scheduler.close = harness.scheduler.events.close  # type: ignore[method-assign]
    harness.close()
    (folder / "0").rename(folder / "5")
    harness.open()
    assert handed_out(harness) == left


def test_a_store_that_fails_meanwhile_changes_nothing(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a row that cannot be read nor a commit that fails, at whichever of the transactions."""
    worker = Worker(harness)
    worker.report_others()
    left = worker.deliver()
    kill_scheduler(harness)
    calls: Counter[str] = Counter()

    def fails(call: Any, at: range) -> Any:
        def failing(*arguments: Any) -> Any:
            calls[call.__name__] += 1
            if calls[call.__name__] in at:
                raise StoreError("the disk fails")
            return call(*arguments)

        return failing

    monkeypatch.setattr(
        DeliveryTransaction, "write", fails(DeliveryTransaction.write, range(1, 20, 2))
    )
    monkeypatch.setattr(DeliveryStore, "delivery", fails(DeliveryStore.delivery, range(1, 200, 70)))
    found: list[int] = []
    while len(found) < IN_FLIGHT or harness.scheduler.busy:
        harness.scheduler.step(harness.now_ns)
        found += [delivery.id for delivery in harness.take()]
        harness.now_ns += S
    assert calls["write"] > 2 * REPORTS // step_limits.DELIVERIES
    assert calls["delivery"] > 140
    assert sorted(found) == left
    assert states(harness)[State.DELIVERED] == OUT - IN_FLIGHT


def test_reports_that_keep_coming_do_not_keep_a_new_scheduler_from_feeding(
    harness: SchedulerHarness,
) -> None:
    """Only what stood in the outbox when it began has to be applied first."""
    worker = Worker(harness)
    worker.report_others()
    left = worker.deliver()
    kill_scheduler(harness)
    for _ in range(REPORTS // step_limits.DELIVERIES + 2):
        worker.report_others(2 * step_limits.DELIVERIES)
        harness.scheduler.step(harness.now_ns)
        assert harness.scheduler.busy
    assert sorted(delivery.id for delivery in harness.take()) == left


def test_what_was_delivered_is_not_given_up(harness: SchedulerHarness) -> None:
    """Neither as overdue, nor because its endpoint is removed: its report comes first."""
    worker = Worker(harness)
    worker.report_others()
    worker.deliver()
    harness.now_ns += 25 * HOUR
    kill_scheduler(harness, ENDS[OTHER])
    handed_out(harness)
    assert states(harness) == {State.DEAD: IN_FLIGHT, State.DELIVERED: OUT - IN_FLIGHT}


def test_what_is_replayed_meanwhile_goes_out_once(harness: SchedulerHarness) -> None:
    """Commands are obeyed before the reports are read."""
    worker = Worker(harness)
    harness.first_failure("evt_dead")
    (dead,) = harness.sleep_until_due()
    harness.fail(dead, "dead")
    worker.report_others()
    left = worker.deliver()
    kill_scheduler(harness)
    assert harness.scheduler.replay([dead.id, *left], harness.now_ns) == 1
    assert handed_out(harness) == sorted([dead.id, *left])


@pytest.mark.parametrize("fails", [False, True], ids=["", "store fails"])
def test_a_lost_workers_reports_are_read_before_anything_is_released(
    harness: SchedulerHarness, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deliveries that were taken over from it are handed out again only if no report of its settles
    them."""
    taken_over = [harness.fresh(f"evt_{n}") for n in range(OUT)]
    for delivery in taken_over:
        harness.reporter.report(delivery, "adopted", "over_share")
    harness.step()
    worker = object.__new__(Worker)
    worker.harness, worker.hand = harness, taken_over
    worker.report_others()
    left = worker.deliver()
    harness.scheduler.worker_lost(0)
    if fails:
        with monkeypatch.context() as patched:
            patched.setattr(DeliveryTransaction, "write", _full)
            assert handed_out(harness) == []
        harness.now_ns += S
    assert handed_out(harness) == left


def _full(*_: object) -> None:
    raise StoreError("the disk is full")


def test_what_is_taken_over_from_a_successor_stays_with_it(harness: SchedulerHarness) -> None:
    """It goes on in the outbox of the lost one, whose reports are not all read yet."""
    worker = Worker(harness)
    worker.report_others()
    harness.scheduler.worker_lost(0)
    harness.reporter.report(harness.fresh("evt_successor"), "adopted", "over_share")
    assert handed_out(harness) == []


def test_a_worker_whose_supervisor_died_before_it_began_leaves(harness: SchedulerHarness) -> None:
    """It takes nothing: a successor of the supervisor has found its lock free, and has workers of its
    own. Nor does it wait for the lock."""
    with Publisher(harness.path) as publisher:
        publisher.emit("order.paid", {})
    rings = list(harness.path.glob("rings/*/*.ring"))
    for held in (False, True):
        lock = FileLock(harness.path / "workers/0/lock") if held else None
        reading, writing = os.pipe()
        os.close(writing)
        command = [sys.executable, "-m", "fluxhook.supervisor", "worker", str(reading)]
        ended = subprocess.run(
            [*command, str(harness.path), "0"], pass_fds=[reading], timeout=9, capture_output=True
        )
        os.close(reading)
        assert (ended.returncode, ended.stderr) == (0, b"")
        if lock is not None:
            lock.release()
    taken = [ring.Consumer(str(path)).next for path in rings]
    assert taken == [0] * len(rings)

"""From a report of a worker to the store.

A worker's reporter and the scheduler run as in production, under a clock that the test moves.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

from fluxhook import Aggregate, Duration, Retry
from fluxhook._native import ring
from fluxhook.policy import delivery as life
from fluxhook.policy.outcome import CAUSES
from fluxhook.scheduler import step_limits
from fluxhook.stats import read_stats
from fluxhook.store import DeliveryTransaction, State, StoreError
from fluxhook.transport import datadir as d
from fluxhook.transport.messages import DEFERRED, Attempt, EventHead, Report, Verdict
from fluxhook.worker.reporter import NO_ENDPOINT
from support.scheduler_harness import S, SchedulerHarness
from support.scheduler_parts import NOW, Parts
from support.stored import SCHEDULE, endpoint, head, head_id, known, rows, states, taken


@pytest.fixture
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SchedulerHarness]:
    """One with an endpoint "a"; an indirect parameter has more options of it."""
    with SchedulerHarness(tmp_path / "data", endpoint(**getattr(request, "param", {}))) as harness:
        yield harness


@pytest.mark.parametrize(
    ("verdict", "cause", "state", "dropped"),
    [
        ("retry", "server_error", "waiting", {}),
        ("dead", "client_error", "dead", {}),
        ("parked", "paused", "waiting", {}),
        ("dropped", "expired", "dropped", {"expired": 1}),
        ("delivered", "delivered", "delivered", {}),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_each_verdict_has_its_state(
    harness: SchedulerHarness,
    verdict: Any,
    cause: str,
    state: str,
    dropped: dict[str, int],
    known: bool,
) -> None:
    """That holds if the store had the delivery, and if it had not. A death is a death and no drop: it
    can be replayed."""
    delivery = harness.fresh("evt_a")
    if known:
        harness.fail(delivery)
        (delivery,) = harness.sleep_until_due()
    attempted = verdict == "retry"  # the others come without an attempt too
    harness.reporter.report(delivery, verdict, cause, harness.attempt(cause) if attempted else None)
    harness.step()
    row = rows(harness)["evt_a"]
    assert State(row.state).name.lower() == state
    assert row.cause == ("" if state == "delivered" else cause)
    assert row.attempts == known + attempted
    assert row.error == ("no" if attempted else "")
    assert row.ended_ns == (None if state == "waiting" else harness.now_ns)
    stats = read_stats(harness.path).endpoint("a")
    assert stats.dropped == dropped
    assert (stats.delivered, stats.dead) == (state == "delivered", state == "dead")
    assert stats.stored == (state == "waiting")
    assert harness.scheduler.replay([row.id], harness.now_ns) == (state == "dead")


def test_every_entry_of_a_schedule_is_used(harness: SchedulerHarness) -> None:
    """Four entries are four retries at those times after the first failure, however long attempts take;
    the failure of the fourth is the end."""
    began_ns = harness.now_ns
    harness.first_failure("evt_a")
    at = []
    for n in range(1, 5):
        assert rows(harness)["evt_a"].attempts == n
        (delivery,) = harness.sleep_until_due()
        assert delivery.attempts == n
        at.append((harness.now_ns - began_ns) // S)
        harness.now_ns += 3 * S
        harness.fail(delivery)
    assert at == [15, 120, 600, 3600]
    assert states(harness) == {"evt_a": "dead"}
    assert rows(harness)["evt_a"].attempts == 5
    assert rows(harness)["evt_a"].error == "no"


def test_a_wait_that_the_receiver_asks_for(harness: SchedulerHarness) -> None:
    """Retry-After moves the retry, and only that one."""
    delivery = harness.fresh("evt_a")
    attempt = msgspec.structs.replace(harness.attempt(), retry_after_s=100)
    began_ns = harness.now_ns
    harness.reporter.report(delivery, "retry", "server_error", attempt)
    (delivery,) = harness.sleep_until_due()
    assert harness.now_ns - began_ns == 100 * S
    harness.fail(delivery)
    harness.sleep_until_due()
    assert harness.now_ns - began_ns == 120 * S


@pytest.mark.parametrize(
    "harness", [{"retry": Retry(schedule=SCHEDULE, jitter=0.5)}], indirect=True
)
def test_jitter_is_chance(harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delay is shortened by up to `jitter` of itself."""
    monkeypatch.setattr(random, "random", lambda: 0.5)
    harness.first_failure("evt_a")
    assert rows(harness)["evt_a"].due_ns == harness.now_ns + int(11.25 * S)


def test_what_is_deferred_waits_as_long_as_it_is_told(harness: SchedulerHarness) -> None:
    """Without a time it is due at once."""
    far = harness.now_ns + 77 * S
    harness.reporter.report(harness.fresh("evt_a"), "parked", "breaker_open", not_before_ns=far)
    harness.reporter.report(harness.fresh("evt_b"), "parked", "over_share")
    assert [head(delivery).event.split(b"\0")[0] for delivery in taken(harness)] == [b"evt_b"]
    assert rows(harness)["evt_a"].due_ns == far
    assert rows(harness)["evt_b"].due_ns == harness.now_ns


def test_suspects_are_tried_one_at_a_time(harness: SchedulerHarness) -> None:
    """Before their time, in the order in which they were reported; nothing else is hurried, and nothing
    else makes them wait."""
    far = harness.now_ns + 77 * S
    for id, cause in (("evt_a", "suspect"), ("evt_b", "paused"), ("evt_c", "suspect")):
        harness.reporter.report(harness.fresh(id), "parked", cause, not_before_ns=far)
    for id in ("evt_a", "evt_c"):
        (delivery,) = taken(harness)
        assert (head_id(harness, delivery), head(delivery).suspect) == (id, True)
        assert taken(harness) == []
        harness.reporter.report(
            known(harness, head(delivery).delivery_id), "delivered", "delivered"
        )
    assert taken(harness) == []
    assert rows(harness)["evt_b"].due_ns == far


def test_what_is_out_for_another_reason_holds_up_no_suspect(harness: SchedulerHarness) -> None:
    """A suspect waits for the suspect before it alone."""
    harness.reporter.report(
        harness.fresh("evt_a"), "parked", "suspect", not_before_ns=harness.now_ns + S
    )
    (first,) = taken(harness)
    harness.reporter.report(harness.fresh("evt_b"), "parked", "paused")
    assert [head_id(harness, delivery) for delivery in taken(harness)] == ["evt_b"]
    harness.reporter.report(
        harness.fresh("evt_c"), "parked", "suspect", not_before_ns=harness.now_ns + S
    )
    harness.reporter.report(known(harness, head(first).delivery_id), "delivered", "delivered")
    assert [head_id(harness, delivery) for delivery in taken(harness)] == ["evt_c"]


def test_an_attempt_is_dated_by_the_wall_clock(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While delays run on the engine's: one that the operator set back an hour delays nothing."""
    clock = harness.supervisor.clock
    monkeypatch.setattr(clock, "wall_ns", lambda at_ns: at_ns - 3600 * S)
    began_ns = harness.now_ns
    harness.first_failure("evt_a")
    monkeypatch.undo()
    row = rows(harness)["evt_a"]
    assert (row.due_ns, row.first_failed_ns) == (began_ns + 15 * S, began_ns)
    assert harness.store.endpoints()[0].failed_ns == began_ns - 3600 * S


def test_a_report_on_what_has_ended_changes_nothing(
    harness: SchedulerHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """It is stale: the delivery was replayed, erased, or given up meanwhile."""
    harness.first_failure("evt_a")
    (delivery,) = harness.sleep_until_due()
    harness.fail(delivery, "dead")
    before = rows(harness)
    harness.reporter.report(delivery, "delivered", "delivered", harness.attempt())
    harness.step()
    assert rows(harness) == before
    assert read_stats(harness.path).endpoint("a").delivered == 0
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert harness.scheduler.reports.limit == step_limits.DELIVERIES


def test_a_retry_for_an_endpoint_that_is_no_more(harness: SchedulerHarness) -> None:
    """It is dead at once, whatever the policy would have said."""
    delivery = harness.fresh("evt_a")
    harness.scheduler.endpoints.by_id = {}
    harness.fail(delivery)
    assert states(harness) == {"evt_a": "dead"}
    assert rows(harness)["evt_a"].cause == "server_error"


@pytest.mark.parametrize(
    ("verdict", "cause", "state"),
    [
        ("delivered", "delivered", "delivered"),
        ("dropped", "expired", "dropped"),
        ("parked", "paused", "waiting"),
    ],
)
def test_what_else_is_reported_for_an_endpoint_that_is_no_more(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch, verdict: Any, cause: str, state: str
) -> None:
    """A delivery that succeeded is delivered, though the endpoint was removed meanwhile."""
    monkeypatch.setattr(harness.scheduler, "feeding", False)
    delivery = harness.fresh("evt_a")
    harness.scheduler.endpoints.by_id = {}
    harness.fail(delivery, verdict, cause, 200)
    assert states(harness) == {"evt_a": state}
    assert read_stats(harness.path).endpoint("a").dead == 0


@pytest.mark.parametrize("harness", [{"ordered": True, "on_head_failure": "block"}], indirect=True)
def test_the_order_of_a_blocking_endpoint(harness: SchedulerHarness) -> None:
    """Deliveries behind a failing head are handed out after it has ended, and one at a time."""
    harness.first_failure("evt_0")
    for n in (1, 2):
        harness.reporter.report(harness.fresh(f"evt_{n}"), "parked", "order")
    harness.step()
    assert states(harness) == {"evt_0": "waiting", "evt_1": "blocked", "evt_2": "blocked"}
    for n in range(3):
        (delivery,) = harness.sleep_until_due()
        assert head_id(harness, delivery) == f"evt_{n}"
        harness.reporter.report(delivery, "delivered", "delivered", harness.attempt())


@pytest.mark.parametrize("harness", [{"ordered": True, "on_head_failure": "block"}], indirect=True)
def test_a_faulty_report_keeps_its_place_in_the_order(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of ours makes it a dead letter; replayed, it is in its line like before."""

    def odd(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("odd")

    monkeypatch.setattr(life, "step", odd)
    harness.first_failure("evt_0")
    harness.step()
    monkeypatch.undo()
    row = rows(harness)["evt_0"]
    assert (State(row.state), row.cause, row.ordered) == (State.DEAD, "internal", 1)
    harness.first_failure("evt_1")
    assert harness.scheduler.replay([row.id], harness.now_ns) == 1
    assert states(harness) == {"evt_0": "blocked", "evt_1": "waiting"}


def test_what_is_taken_over_is_out_with_its_worker(harness: SchedulerHarness) -> None:
    """The store keeps it and hands it to nobody, until the worker reports or ends."""
    first, second = harness.fresh("evt_a"), harness.fresh("evt_b")
    for delivery in (first, second):
        harness.reporter.report(delivery, "adopted", "over_share")
    assert harness.due() == []
    assert {id: row.cause for id, row in rows(harness).items()} == {
        "evt_a": "over_share",
        "evt_b": "over_share",
    }
    harness.fail(first, "dead")
    assert harness.scheduler.leases.taken_over == [{second.id: 1}]
    harness.scheduler.worker_lost(0)
    assert [delivery.id for delivery in harness.due()] == [second.id]
    assert harness.scheduler.leases.taken_over == [{}]


@pytest.mark.parametrize(
    "harness", [{"aggregate": Aggregate(window=Duration(10 * S))}], indirect=True
)
def test_what_is_aggregated_has_no_row(harness: SchedulerHarness) -> None:
    """It is counted in its window, and the window becomes a delivery."""
    harness.gather("evt_a")
    harness.step()
    assert states(harness) == {}
    assert read_stats(harness.path).endpoint("a").aggregated == 1
    harness.now_ns += 10 * S
    harness.step()
    assert list(states(harness).values()) == ["waiting"]


def test_workers_see_what_is_stored(harness: SchedulerHarness) -> None:
    """Their word says so as soon as it is committed: an order that is in the store goes on there."""
    harness.first_failure("evt_a")
    assert harness.word(0, d.STORED) == 1
    (delivery,) = harness.sleep_until_due()
    harness.reporter.report(delivery, "delivered", "delivered")
    harness.step()
    assert harness.word(0, d.STORED) == 0


@pytest.mark.parametrize("by_own_fault", [False, True])
def test_what_a_worker_had_that_ended(harness: SchedulerHarness, by_own_fault: bool) -> None:
    """It is handed out again; where the worker may have ended at it, as a suspect, and only then."""
    for _ in range(2):
        harness.reporter.report(harness.fresh("evt_a"), "adopted", "over_share")
        harness.step()
        harness.scheduler.worker_lost(0, by_own_fault=by_own_fault)
        (delivery,) = taken(harness)
        assert head(delivery).suspect is by_own_fault
        assert (harness.scheduler.retries.lost, harness.scheduler.retries.lost_by_fault) == (
            {},
            set(),
        )
        harness.reporter.report(
            known(harness, head(delivery).delivery_id), "delivered", "delivered"
        )
        harness.step()


def test_the_last_reports_of_a_worker_that_ended(harness: SchedulerHarness) -> None:
    """Deliveries that they settle are not handed out again."""
    delivery = harness.fresh("evt_a")
    harness.reporter.report(delivery, "adopted", "over_share")
    harness.reporter.report(delivery, "delivered", "delivered")
    harness.scheduler.worker_lost(0)
    harness.scheduler.reports.limit = 1  # as after an error: one report at a time
    harness.scheduler.step(harness.now_ns)
    assert harness.inbox.take(10) == []
    assert taken(harness) == []
    assert states(harness) == {"evt_a": "delivered"}


def test_what_is_taken_over_from_the_next_worker_stays_with_it(harness: SchedulerHarness) -> None:
    """Only what was taken over before the worker ended is handed out again."""
    first, second = harness.fresh("evt_a"), harness.fresh("evt_b")
    harness.reporter.report(first, "adopted", "over_share")
    harness.scheduler.worker_lost(0)
    harness.reporter.report(second, "adopted", "over_share")
    assert [head_id(harness, delivery) for delivery in taken(harness)] == ["evt_a"]
    assert list(harness.scheduler.leases.taken_over[0]) == [second.id]


HOUR = Duration(3600 * S)
GONE = CAUSES["gone"].user
FAILED = "Every attempt has failed for 1h; the last one: server_error."


@pytest.mark.parametrize(
    ("harness", "cause", "failing_s", "reason"),
    [
        ({"disable_after": HOUR}, "server_error", 3600, FAILED),
        ({"disable_after": HOUR}, "server_error", 3599, None),
        ({"disable_after": HOUR}, "server_error", None, None),
        ({"disable_after": HOUR}, "gone", 3599, None),
        ({"disable_after": Duration(0)}, "server_error", 3600, None),
        ({"disable_on_gone": True}, "gone", None, GONE),
        ({"disable_on_gone": True}, "server_error", 3600, None),
        ({"disable_on_gone": True, "disable_after": HOUR}, "gone", 3600, GONE),
        ({}, "gone", 3600, None),
    ],
    indirect=["harness"],
)
def test_what_disables(
    harness: SchedulerHarness, cause: str, failing_s: int | None, reason: str | None
) -> None:
    """A 410 where that is wanted, or nothing but failure for so long, since the word of the workers."""
    since_ns = 0 if failing_s is None else harness.now_ns - failing_s * S
    harness.word(0, d.FAILING, since_ns)
    seen: list[tuple[str, str, int]] = []
    harness.scheduler.events.endpoint_disabled = lambda *told: seen.append(told)  # type: ignore[method-assign]
    for n in range(2):  # in one batch; the first reason stays
        attempt = harness.attempt(cause if n == 0 else "server_error")
        harness.reporter.report(harness.fresh(f"evt_{n}"), "dead", cause, attempt)
    harness.step()
    assert harness.store.endpoints()[0].disabled_reason == (reason or "")
    assert rows(harness)["evt_0"].cause == cause  # and not an error of ours
    assert seen == ([("a", reason, since_ns or harness.now_ns)] if reason else [])
    # and nothing more until the processes know of it
    harness.fail(harness.fresh("evt_c"), "dead", cause)
    assert len(seen) == bool(reason)
    assert harness.scheduler.take_disabled() is bool(reason)


def test_a_failure_that_is_tried_again_disables(harness: SchedulerHarness) -> None:
    """As one that is the end does."""
    harness.scheduler.endpoints.by_id = {0: endpoint(disable_after=HOUR)}
    harness.word(0, d.FAILING, harness.now_ns - 3600 * S)
    harness.first_failure("evt_a")
    assert harness.store.endpoints()[0].disabled_reason == FAILED


def test_a_success_disables_nothing(harness: SchedulerHarness) -> None:
    """Nor does a report without an attempt."""
    harness.word(0, d.FAILING, 1)
    harness.scheduler.endpoints.by_id = {0: endpoint(disable_after=HOUR)}
    harness.fail(harness.fresh("evt_a"), "delivered", "delivered", 200)
    harness.reporter.report(harness.fresh("evt_b"), "dead", "removed")
    harness.step()
    assert not harness.scheduler.take_disabled()


# ---- the part alone ------------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    with Parts(tmp_path / "alone", endpoint()) as parts:
        yield parts


class Outbox:
    """A worker's reports, as they stand in its ring."""

    def __init__(self, parts: Parts) -> None:
        path = str(parts.datadir.worker(0) / "outbox.ring")
        self._producer = ring.Producer(path)
        self._path = path

    def report(self, id: int, verdict: Verdict, *, fresh: bool = False, **more: Any) -> None:
        event = EventHead(f"evt_{id}", "route.error").encode() if fresh else b""
        report = Report(id, 0, verdict, more.pop("cause", verdict), event, NOW, **more)
        head, target = msgspec.msgpack.encode(report), (0 if fresh else NO_ENDPOINT)
        assert self._producer.put(target.to_bytes(4, "little"), head, b"{}") == ring.ACCEPTED

    @property
    def unsettled(self) -> int:
        return self._producer.tail - self._producer.head


def test_reports_are_released_once_they_are_committed(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that fails keeps them, and the number of what is stored; then all is true at once."""
    (old,) = parts.add()
    outbox, reports = Outbox(parts), parts.reports()
    outbox.report(77, DEFERRED, fresh=True)
    outbox.report(old, "delivered")

    def full(*_: object) -> NoReturn:
        raise StoreError("full")

    monkeypatch.setattr(DeliveryTransaction, "commit", full)
    for _ in range(2):
        with pytest.raises(StoreError):
            reports.collect(NOW)
        with pytest.raises(StoreError):
            reports.check_committed()
        assert (outbox.unsettled, parts.words.stored(0), parts.state(77)) == (2, 0, "erased")
        assert not reports.applied([0])
    monkeypatch.undo()
    reports.collect(NOW)
    assert (outbox.unsettled, parts.words.stored(0)) == (0, 1)
    assert (parts.state(77), parts.state(old)) == ("waiting", "delivered")
    assert reports.applied([0])
    reports.check_committed()


def test_what_is_applied_is_not_applied_again(parts: Parts) -> None:
    """A scheduler that was killed before it released its reports: the next one skips them."""
    outbox = Outbox(parts)
    outbox.report(77, "retry", fresh=True, attempt=Attempt(NOW, 503, "server_error"))
    parts.reports().collect(NOW)
    row = parts.row(77)
    path = parts.datadir.worker(0) / "outbox.ring"
    applied = parts.store.positions()
    assert list(applied.values()) == [0]
    outbox.report(77, "delivered")
    copy = path.read_bytes()
    parts.reports().collect(NOW)
    assert parts.state(77) == "delivered"
    with path.open("r+b") as file:  # as it was before the release
        file.write(copy)
    reports = parts.reports()
    assert not reports.caught_up
    reports.collect(NOW)
    assert reports.caught_up
    assert (parts.state(77), parts.row(77).attempts) == ("delivered", row.attempts)
    assert list(parts.store.positions().values()) == [1]


def test_how_far_it_has_come(parts: Parts) -> None:
    """By the numbers of the reports: what is in the ring, and what was taken of it."""
    outbox, reports = Outbox(parts), parts.reports()
    for id in range(3):
        outbox.report(id, "delivered", fresh=True)
    assert (reports.tails, reports.reached, reports.applied([0])) == ([3], [0], False)
    reports.collect(NOW)
    assert (reports.tails, reports.reached, reports.applied([0])) == ([3], [3], True)
    assert reports.arm()
    outbox.report(9, "delivered", fresh=True)
    assert not reports.arm()

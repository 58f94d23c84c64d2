"""The way back of what has to be tried again: reports into the store, what is due out to the workers.

A worker and the keeper run as in production, under a clock that the test moves; the network is played.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fluxhook import Aggregate, Batch, Breaker, Duration, Endpoint, Retry
from fluxhook._native import ring
from fluxhook.policy import breaker
from fluxhook.policy.breaker import State as BreakerState
from fluxhook.policy.outcome import CAUSES
from fluxhook.scheduler import scheduler as keeper
from fluxhook.stats import read_stats
from fluxhook.store import State, StoreError
from fluxhook.store.records import Delivery
from fluxhook.transport import datadir as d
from fluxhook.transport.messages import DueHead
from fluxhook.transport.transfer import Transfer
from support.rig import NEVER
from support.scheduler_harness import S, SchedulerHarness
from support.worker_harness import Works

SCHEDULE = tuple(Duration(n * S) for n in (15, 120, 600, 3600))


def endpoint(**options: Any) -> Endpoint:
    options = {
        "name": "a",
        "url": "https://a.example/",
        "signature": "none",
        "circuit_breaker": NEVER,
        "retry": Retry(schedule=SCHEDULE),
    } | options
    return Endpoint(**options)


@pytest.fixture
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SchedulerHarness]:
    with SchedulerHarness(tmp_path / "data", endpoint(**getattr(request, "param", {}))) as harness:
        yield harness


def rows(harness: SchedulerHarness) -> dict[str, Delivery]:
    return {row.event_id: row for row in harness.store.deliveries(limit=10_000)}


def states(harness: SchedulerHarness) -> dict[str, str]:
    return {id: State(row.state).name.lower() for id, row in rows(harness).items()}


def park(harness: SchedulerHarness, n: int, **how: Any) -> None:
    """Has n events wait in the store, due now."""
    for i in range(n):
        harness.reporter.report(harness.fresh(f"evt_{i:05}", **how), "parked", "paused")


# ---- from a report to the store ------------------------------------------------------------


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
    monkeypatch.setattr(keeper.random, "random", lambda: 0.5)
    harness.first_failure("evt_a")
    assert rows(harness)["evt_a"].due_ns == harness.now_ns + int(11.25 * S)


def test_what_is_parked_waits_as_long_as_it_is_told(harness: SchedulerHarness) -> None:
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
    clock = harness.supervisor._clock
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
    assert caplog.records == []  # nor is it an error
    assert harness.scheduler._limit == keeper.BATCH


def test_a_retry_for_an_endpoint_that_is_no_more(harness: SchedulerHarness) -> None:
    """It is dead at once, whatever the policy would have said."""
    delivery = harness.fresh("evt_a")
    harness.scheduler._endpoints = {}
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
    monkeypatch.setattr(harness.scheduler, "_feeding", False)
    delivery = harness.fresh("evt_a")
    harness.scheduler._endpoints = {}
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

    monkeypatch.setattr(keeper.life, "step", odd)
    harness.first_failure("evt_0")
    harness.step()
    monkeypatch.undo()
    row = rows(harness)["evt_0"]
    assert (State(row.state), row.cause, row.ordered) == (State.DEAD, "internal", 1)
    harness.first_failure("evt_1")
    assert harness.scheduler.replay([row.id], harness.now_ns) == 1
    assert states(harness) == {"evt_0": "blocked", "evt_1": "waiting"}


def test_adopted_is_out_with_its_worker(harness: SchedulerHarness) -> None:
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
    assert harness.scheduler._taken_over == [{second.id: 1}]
    harness.scheduler.worker_lost(0)
    assert [delivery.id for delivery in harness.due()] == [second.id]
    assert harness.scheduler._taken_over == [{}]


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
        assert (harness.scheduler._lost, harness.scheduler._lost_by_fault) == ({}, set())
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
    harness.scheduler._limit = 1  # as after an error: one report at a time
    harness.scheduler.step(harness.now_ns)
    assert harness.inbox.take(10) == []
    assert taken(harness) == []
    assert states(harness) == {"evt_a": "delivered"}


def test_what_the_next_worker_has_adopted_stays_with_it(harness: SchedulerHarness) -> None:
    """Only what was adopted before the worker ended is handed out again."""
    first, second = harness.fresh("evt_a"), harness.fresh("evt_b")
    harness.reporter.report(first, "adopted", "over_share")
    harness.scheduler.worker_lost(0)
    harness.reporter.report(second, "adopted", "over_share")
    assert [head_id(harness, delivery) for delivery in taken(harness)] == ["evt_a"]
    assert list(harness.scheduler._taken_over[0]) == [second.id]


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
    seen: list[tuple[str, str, str]] = []
    harness.scheduler._events.endpoint_disabled = lambda *told: seen.append(told)  # type: ignore[method-assign]
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
    harness.scheduler._endpoints = {0: endpoint(disable_after=HOUR)}
    harness.word(0, d.FAILING, harness.now_ns - 3600 * S)
    harness.first_failure("evt_a")
    assert harness.store.endpoints()[0].disabled_reason == FAILED


def test_a_success_disables_nothing(harness: SchedulerHarness) -> None:
    """Nor does a report without an attempt."""
    harness.word(0, d.FAILING, 1)
    harness.scheduler._endpoints = {0: endpoint(disable_after=HOUR)}
    harness.fail(harness.fresh("evt_a"), "delivered", "delivered", 200)
    harness.reporter.report(harness.fresh("evt_b"), "dead", "removed")
    harness.step()
    assert not harness.scheduler.take_disabled()


# ---- from the store to a worker ------------------------------------------------------------


def taken(harness: SchedulerHarness) -> list[ring.Delivery]:
    """Return what the scheduler hands out now, as it stands in the inbox."""
    harness.step()
    return harness.inbox.take(100_000)


def head(delivery: ring.Delivery) -> DueHead:
    return msgspec.msgpack.decode(delivery.event, type=DueHead)


def head_id(harness: SchedulerHarness, delivery: ring.Delivery) -> str:
    return head(delivery).event.split(b"\0")[0].decode()


def test_what_a_worker_is_told(harness: SchedulerHarness) -> None:
    """Everything that it would know of an event from its publisher, and what became of it so far."""
    began_ns = harness.now_ns
    fresh = harness.fresh("evt_a", body=b'{"n": 1}')
    accepted_ns, event = fresh.accepted_ns, fresh.event
    harness.fail(fresh, cause="timeout", status=0)
    harness.now_ns += 15 * S
    (delivery,) = taken(harness)
    row = rows(harness)["evt_a"]
    assert head(delivery) == DueHead(row.id, 1, accepted_ns, event, True, False)
    assert (delivery.body, delivery.endpoint) == (b'{"n": 1}', 0)
    assert harness.scheduler._sent == [{row.id}]
    delivery.id = row.id
    harness.fail(delivery)
    assert harness.scheduler._sent == [set()]
    harness.now_ns = began_ns + 120 * S
    (delivery,) = taken(harness)
    assert not head(delivery).fresh  # the receiver has answered


@pytest.mark.parametrize("harness", [{"concurrency": 2}], indirect=True)
def test_an_endpoint_has_a_window(harness: SchedulerHarness) -> None:
    """So many of its deliveries are out at a time."""
    park(harness, 100)
    assert len(taken(harness)) == 2 * keeper.AHEAD
    assert taken(harness) == []
    out = sorted(harness.store.leases.out)
    for id in out[:5]:
        harness.reporter.report(known(harness, id), "delivered", "delivered")
    assert len(taken(harness)) == 5


@pytest.mark.parametrize(
    ("elsewhere", "out", "room"),
    [(0, 0, 32), (99, 0, 32), (100, 0, 2), (100, 2, 0), (0, 31, 1), (0, 33, -1)],
)
def test_the_window_is_small_where_many_are_out(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch, elsewhere: int, out: int, room: int
) -> None:
    """Once OUT_FREELY are out in all, an endpoint has no more out than it can have under way."""
    monkeypatch.setattr(keeper, "AHEAD", 16)
    monkeypatch.setattr(keeper, "OUT_FREELY", 100)
    monkeypatch.setattr(harness.scheduler, "_sent", [set(range(elsewhere)), set()])
    monkeypatch.setattr(harness.store, "leased", lambda id: out)
    found = harness.scheduler._room(0, endpoint(concurrency=2), harness.now_ns)
    assert found == (room, keeper.NEVER_NS)


def known(harness: SchedulerHarness, id: int) -> ring.Delivery:
    """A delivery of the store in a worker's hands."""
    delivery = harness.fresh("unused")
    delivery.settle()
    delivery.id = id
    return delivery


@pytest.mark.parametrize(
    "harness", [{"concurrency": 2, "batch": Batch(max_events=10)}], indirect=True
)
def test_a_batching_endpoint_has_a_larger_window(harness: SchedulerHarness) -> None:
    """As many times as many as a batch may have."""
    park(harness, 500)
    assert len(taken(harness)) == 2 * 10 * keeper.AHEAD


BREAKER = {"circuit_breaker": Breaker(failure_threshold=3, reset_timeout=Duration(60 * S))}


@pytest.mark.parametrize("harness", [BREAKER], indirect=True)
def test_nothing_is_handed_out_to_an_open_breaker(harness: SchedulerHarness) -> None:
    """Until its reset_timeout is over; then one, as a probe, and one more when that is back."""
    opened_ms = harness.now_ns // 1_000_000 + 1
    harness.word(0, d.BREAKER, breaker.pack(BreakerState("open", opened_ms)))
    park(harness, 5)
    assert taken(harness) == []
    assert harness.scheduler._feed(harness.now_ns) == opened_ms * 1_000_000 + 60 * S
    harness.now_ns = opened_ms * 1_000_000 + 60 * S - 1
    assert taken(harness) == []
    harness.now_ns += 1
    (delivery,) = taken(harness)
    assert taken(harness) == []
    assert harness.scheduler._feed(harness.now_ns) == harness.now_ns + 100_000_000
    harness.word(0, d.BREAKER, breaker.pack(BreakerState("half_open", 0)))
    harness.reporter.report(
        known(harness, head(delivery).delivery_id), "parked", "breaker_open",
        not_before_ns=harness.now_ns + 1000 * S,
    )  # fmt: skip
    assert len(taken(harness)) == 1
    harness.word(0, d.BREAKER, 0)
    assert len(taken(harness)) == 3


@pytest.mark.parametrize("harness", [BREAKER], indirect=True)
@pytest.mark.parametrize(("ahead_ms", "n"), [(1, 0), (2, 1)])
def test_a_breaker_that_opened_in_the_future(
    harness: SchedulerHarness, ahead_ms: int, n: int
) -> None:
    """Only a damaged word is more than a millisecond ahead: its endpoint is probed, and the worker
    corrects it."""
    harness.now_ns = harness.now_ns // 1_000_000 * 1_000_000
    opened_ms = harness.now_ns // 1_000_000 + ahead_ms
    harness.word(0, d.BREAKER, breaker.pack(BreakerState("open", opened_ms)))
    park(harness, 3)
    assert len(taken(harness)) == n


@pytest.mark.parametrize(
    ("at_ns", "found"),
    [
        (-1_000_001, (1, -1_000_001 + 100_000_000)),
        (-1_000_000, (0, 60 * S)),
        (60 * S - 1, (0, 60 * S)),
        (60 * S, (1, 60 * S + 100_000_000)),
    ],
)
def test_when_an_open_breaker_has_room(
    harness: SchedulerHarness, at_ns: int, found: tuple[int, int]
) -> None:
    """For one probe: from its reset_timeout on, or where it opened more than a millisecond ahead."""
    opened_ms = harness.now_ns // 1_000_000
    harness.word(0, d.BREAKER, breaker.pack(BreakerState("open", opened_ms)))
    opened_ns = opened_ms * 1_000_000
    room, again_ns = harness.scheduler._room(0, endpoint(**BREAKER), opened_ns + at_ns)
    assert (room, again_ns - opened_ns) == found


def test_a_paused_endpoint_gets_nothing(tmp_path: Path) -> None:
    """Deliveries that are due wait, and hold nobody up."""
    paused = endpoint(name="paused", paused=True)
    with SchedulerHarness(tmp_path / "data", paused, endpoint(name="b")) as harness:
        park(harness, 3)
        harness.reporter.report(harness.fresh("evt_b", endpoint=1), "parked", "paused")
        assert [delivery.endpoint for delivery in taken(harness)] == [1]
        assert harness.scheduler._feed(harness.now_ns) == keeper.NEVER_NS


def test_of_a_removed_endpoint_all_is_dead(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In steps of so many, one after the other."""
    park(harness, 8)
    harness.step()
    monkeypatch.setattr(keeper, "BATCH", 3)
    harness.store.release(list(harness.store.leases.out))
    harness.scheduler._endpoints = {}
    left = []
    for _ in range(4):
        harness.scheduler.busy = False
        harness.scheduler._feed(harness.now_ns)
        left.append((harness.word(0, d.STORED), harness.scheduler.busy))
    assert left == [(5, True), (2, True), (0, True), (0, False)]
    assert set(states(harness).values()) == {"dead"}
    assert {row.cause for row in rows(harness).values()} == {"removed"}


def test_of_a_disabled_endpoint_all_is_dead(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says that it was disabled."""
    monkeypatch.setattr(harness.scheduler, "_feeding", False)
    park(harness, 2)
    harness.step()
    monkeypatch.undo()
    snapshot = harness.supervisor.snapshot
    harness.scheduler.configure(msgspec.structs.replace(snapshot, disabled=frozenset({"a"})))
    assert taken(harness) == []
    assert {(row.state, row.cause) for row in rows(harness).values()} == {(State.DEAD, "disabled")}


def test_dead_letters_count_for_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To make dead letters of a removed endpoint's deliveries is work too: the others have their turn
    in the next step."""
    with SchedulerHarness(tmp_path / "data", endpoint(), endpoint(name="b")) as harness:
        monkeypatch.setattr(harness.scheduler, "_feeding", False)
        park(harness, 3)
        harness.reporter.report(harness.fresh("evt_b", endpoint=1), "parked", "paused")
        harness.step()
        monkeypatch.setattr(keeper, "BATCH", 3)
        harness.scheduler._endpoints = {1: endpoint(name="b")}
        harness.scheduler._feed(harness.now_ns)
        assert harness.take() == []
        harness.scheduler._feed(harness.now_ns)
        assert [delivery.endpoint for delivery in harness.take()] == [1]


def test_each_endpoint_has_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step hands out so many; the next one goes on with the endpoints that had none."""
    names = [endpoint(name=name) for name in "abc"]
    with SchedulerHarness(tmp_path / "data", *names) as harness:
        for id, n in ((0, 9), (1, 2), (2, 2)):
            for i in range(n):
                delivery = harness.fresh(f"evt_{id}_{i}", endpoint=id)
                harness.reporter.report(delivery, "parked", "paused")
        monkeypatch.setattr(harness.scheduler, "_feeding", False)
        harness.step()
        monkeypatch.setattr(keeper, "BATCH", 2)
        turns = []
        for _ in range(5):
            harness.scheduler.busy = False
            harness.scheduler._feed(harness.now_ns)
            turns.append([delivery.endpoint for delivery in harness.inbox.take(100)])
            assert harness.scheduler.busy
        assert turns == [[0, 0], [1, 1], [2, 2], [0, 0], [0, 0]]


def test_a_turn_that_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once all had theirs, the next begins anew; a keeper that is busy stays so."""
    with SchedulerHarness(tmp_path / "data", endpoint(), endpoint(name="b")) as harness:
        monkeypatch.setattr(harness.scheduler, "_feeding", False)
        monkeypatch.setattr(keeper, "BATCH", 2)
        turns = []
        for _ in range(2):
            for id, n in ((0, 2), (1, 1)):
                for i in range(n):
                    harness.reporter.report(
                        harness.fresh(f"evt_{i}", endpoint=id), "parked", "paused"
                    )
            harness.step()
            for busy in (False, True):
                harness.scheduler.busy = busy
                harness.scheduler._feed(harness.now_ns)
                turns.append([delivery.endpoint for delivery in harness.inbox.take(100)])
                assert harness.scheduler.busy
        assert turns == [[0, 0], [1], [0, 0], [1]]
        harness.scheduler.busy = False
        harness.scheduler._feed(harness.now_ns)
        assert not harness.scheduler.busy


@pytest.mark.parametrize(
    ("harness", "n", "later_s", "handed_out", "wake_s"),
    [
        ({}, 1, 5, 1, 5),  # the next is not due yet
        ({}, 1, None, 1, None),
        ({"concurrency": 1}, keeper.AHEAD + 3, 5, keeper.AHEAD, None),  # a report will come first
    ],
    indirect=["harness"],
)
def test_when_more_is_to_hand_out(
    harness: SchedulerHarness,
    monkeypatch: pytest.MonkeyPatch,
    n: int,
    later_s: int | None,
    handed_out: int,
    wake_s: int | None,
) -> None:
    """The scheduler is called when the next is due; but never while the endpoint has no room for what
    is due already."""
    monkeypatch.setattr(harness.scheduler, "_feeding", False)
    park(harness, n)
    if later_s is not None:
        at_ns = harness.now_ns + later_s * S
        harness.reporter.report(harness.fresh("evt_z"), "parked", "paused", not_before_ns=at_ns)
    harness.step()
    wake_ns = harness.scheduler._feed(harness.now_ns)
    assert wake_ns == (keeper.NEVER_NS if wake_s is None else harness.now_ns + wake_s * S)
    assert len(harness.inbox.take(100)) == handed_out


def test_each_is_handed_out_when_it_is_due(harness: SchedulerHarness) -> None:
    """The keeper says when the next is."""
    for n in (3, 1, 2):
        harness.reporter.report(
            harness.fresh(f"evt_{n}"), "parked", "paused", not_before_ns=harness.now_ns + n * S
        )
    begun_ns = harness.now_ns
    for n in (1, 2, 3):
        assert taken(harness) == []
        assert harness.scheduler._feed(harness.now_ns) == begun_ns + n * S
        harness.now_ns = begun_ns + n * S
        (delivery,) = taken(harness)
        assert head_id(harness, delivery) == f"evt_{n}"


def test_a_full_inbox(harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery that does not fit stays due, and is tried again in ten milliseconds; nothing is out
    that no worker has."""

    class Full:
        room = 2

        def put(self, *_: object) -> int:
            self.room -= 1
            return ring.ACCEPTED if self.room >= 0 else ring.FULL

    park(harness, 5)
    monkeypatch.setattr(harness.scheduler, "_inboxes", [Full()])
    harness.step()
    assert len(harness.store.leases.out) == len(harness.scheduler._sent[0]) == 2
    assert harness.scheduler._feed(harness.now_ns) == harness.now_ns + 10_000_000
    monkeypatch.undo()
    harness.now_ns += 10_000_000
    assert len(taken(harness)) == 3


def test_an_inbox_that_raises(harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours: nothing counts as out that no worker has."""

    class Odd:
        room = 2

        def put(self, *_: object) -> int:
            self.room -= 1
            if self.room < 0:
                raise RuntimeError("odd")
            return ring.ACCEPTED

    park(harness, 5)
    monkeypatch.setattr(harness.scheduler, "_inboxes", [Odd()])
    harness.step()
    assert len(harness.scheduler._sent[0]) == 2
    assert harness.store.leases.out.keys() == harness.scheduler._sent[0]
    monkeypatch.undo()
    harness.now_ns += keeper.FAULT_BACKOFF_NS
    assert len(taken(harness)) == 3


def test_an_event_that_no_inbox_takes(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came under a larger max_event_bytes: a dead letter that says so, and out with nobody."""

    class Small:
        def put(self, *_: object) -> int:
            return ring.TOO_LARGE

    park(harness, 2)
    monkeypatch.setattr(harness.scheduler, "_inboxes", [Small()])
    harness.step()
    assert set(states(harness).values()) == {"dead"}
    for row in rows(harness).values():
        assert row.cause == "payload_too_large"
        assert "raise that" in row.error
        assert row.ended_ns is not None
    assert harness.scheduler._sent == [set()]
    assert harness.word(0, d.STORED) == 0


def test_the_worker_that_has_least(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gets the next delivery of an endpoint that no worker has for itself."""
    assert harness.scheduler._idlest() == 0
    monkeypatch.setattr(harness.scheduler, "_inboxes", [None, None])
    monkeypatch.setattr(harness.scheduler, "_sent", [{1, 2}, {3}])
    assert harness.scheduler._idlest() == 1
    monkeypatch.setattr(harness.scheduler, "_inboxes", [None, None, None])
    monkeypatch.setattr(harness.scheduler, "_sent", [{1, 2}, {3}, {4, 5}])
    assert harness.scheduler._idlest() == 1
    monkeypatch.setattr(harness.scheduler, "_leaving", frozenset({1}))
    assert harness.scheduler._idlest() == 0


@pytest.mark.parametrize("harness", [{}, {"ordered": True}], indirect=True)
def test_a_worker_that_leaves_gets_nothing(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is gone, what only it could have waits; the others are looked at again soon."""
    park(harness, 3)
    inbox = harness.scheduler._inboxes[0]
    monkeypatch.setattr(harness.scheduler, "_feeding", False)
    harness.step()
    monkeypatch.setattr(harness.scheduler, "_inboxes", [inbox, inbox])
    monkeypatch.setattr(harness.scheduler, "_sent", [set(), set()])
    ordered = harness.endpoint("a").ordered
    for leaving, out in (({0, 1}, 0), ({0}, 0 if ordered else 3)):
        monkeypatch.setattr(harness.scheduler, "_leaving", frozenset(leaving))
        wake_ns = harness.scheduler._feed(harness.now_ns)
        assert [len(sent) for sent in harness.scheduler._sent] == [0, out]
        assert len(harness.store.leases.out) == out
        assert out or wake_ns == harness.now_ns + 10_000_000


def test_what_is_not_due_needs_no_worker(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper is not woken for it while all of them leave."""
    far = harness.now_ns + 77 * S
    harness.reporter.report(harness.fresh("evt_a"), "parked", "paused", not_before_ns=far)
    harness.step()
    monkeypatch.setattr(harness.scheduler, "_leaving", frozenset({0}))
    assert harness.scheduler._feed(harness.now_ns) == far


@pytest.mark.parametrize(
    ("ring", "workers", "worker"), [(None, 2, None), (0, 2, 0), (1, 2, 1), (5, 2, 1), (3, 4, 3)]
)
def test_the_worker_of_a_ring(
    harness: SchedulerHarness, ring: int | None, workers: int, worker: int | None
) -> None:
    """Ring n is read by worker n modulo the workers, also where there were more of them before."""
    ordered = endpoint(ordered=ring is not None)
    homes = {} if ring is None else {0: ring}
    snapshot = harness.supervisor.snapshot
    harness.scheduler.snapshot = msgspec.structs.replace(snapshot, workers=workers, homes=homes)
    assert harness.scheduler._home(ordered) == worker


def test_an_ordered_endpoint_has_one_worker(tmp_path: Path) -> None:
    """All of its deliveries go there, however much that has to do."""
    ordered = endpoint(ordered=True, on_head_failure="park")
    with SchedulerHarness(tmp_path / "data", ordered) as harness:
        home = harness.supervisor.snapshot.home(ordered)
        assert home == 0
        harness.scheduler._sent.append(set())
        harness.scheduler._inboxes.append(harness.scheduler._inboxes[0])
        park(harness, 3)
        taken(harness)
        assert [len(sent) for sent in harness.scheduler._sent] == [3, 0]


def test_a_fault_at_one_endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left alone for a while, of which the keeper is woken; the others get theirs. A store that
    fails is no fault of an endpoint."""
    with SchedulerHarness(tmp_path / "data", endpoint(), endpoint(name="b")) as harness:
        park(harness, 1)
        harness.reporter.report(harness.fresh("evt_b", endpoint=1), "parked", "paused")
        real = harness.scheduler._room

        def room(endpoint_id: int, *more: Any) -> tuple[int, int]:
            if endpoint_id == 0:
                raise RuntimeError("odd")
            return real(endpoint_id, *more)

        monkeypatch.setattr(harness.scheduler, "_room", room)
        with caplog.at_level(logging.ERROR, "fluxhook"):
            assert [delivery.endpoint for delivery in taken(harness)] == [1]
        assert harness.scheduler._feed(harness.now_ns) == harness.now_ns + keeper.FAULT_BACKOFF_NS
        assert len(caplog.records) == 1
        harness.step()
        assert len(caplog.records) == 1

        def full(*_: object) -> NoReturn:
            raise StoreError("full")

        monkeypatch.setattr(harness.scheduler, "_room", full)
        harness.reporter.report(harness.fresh("evt_c", endpoint=1), "parked", "paused")
        harness.step()
        assert harness.scheduler._faulty.keys() == {0}
        assert harness.wake_ns == harness.now_ns + keeper.STORE_BACKOFF_NS


# ---- dead letters --------------------------------------------------------------------------


def test_a_replay(harness: SchedulerHarness) -> None:
    """Dead letters wait again, with all of their attempts before them; nothing else does, and what is
    named twice is one."""
    harness.fail(harness.fresh("evt_dead"), "dead", "client_error", 404)
    harness.first_failure("evt_waits")
    ids = {id: row.id for id, row in rows(harness).items()}
    named = [ids["evt_dead"], ids["evt_waits"], ids["evt_dead"], 12345]
    assert harness.scheduler.replay(named, harness.now_ns) == 1
    assert states(harness) == {"evt_dead": "waiting", "evt_waits": "waiting"}
    assert harness.word(0, d.STORED) == 2
    (delivery,) = taken(harness)
    assert (head(delivery).delivery_id, head(delivery).attempts) == (ids["evt_dead"], 0)
    assert harness.scheduler.replay(named, harness.now_ns) == 0


# ---- all of it, in any order ---------------------------------------------------------------

CHOICES = [
    Retry(schedule=SCHEDULE, max_retry_after=Duration(50 * S)),
    Retry(schedule=SCHEDULE[:2], max_attempts=4),
    Retry(max_attempts=3, initial_interval=Duration(S), multiplier=3.0),
    Retry(schedule=()),
    Retry(schedule=SCHEDULE[:1], retry_on=("5xx", "transport")),
]
#: when each attempt after the first is due: seconds after the first failure, or after the latest
EXPECTED: list[tuple[str, list[int]]] = [
    ("first", [15, 120, 600, 3600]),
    ("first", [15, 120, 225]),
    ("latest", [1, 3]),
    ("first", []),
    ("first", [15]),
]


class Deliveries(RuleBasedStateMachine):
    """Events through worker, rings, keeper and store, against a dict of what must be known of each."""

    @initialize(choice=st.integers(0, len(CHOICES) - 1))
    def start(self, choice: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.works = Works(Path(self.folder.name), endpoint(retry=CHOICES[choice]))
        self.choice = choice
        self.model: dict[str, dict[str, Any]] = {}

    def teardown(self) -> None:
        self.works.harness.close()
        self.folder.cleanup()

    def sent(self) -> dict[str, Transfer]:
        """Return what is under way, by event."""
        return {
            slot.tag[1].event.split(b"\0")[0].decode(): slot for slot in self.works.wire.under_way
        }

    @rule()
    def emit(self) -> None:
        id = f"evt_{len(self.model)}"
        assert len(self.works.emit(id)) == 1
        self.model[id] = {"state": "sending", "attempts": 0, "first": None, "due": 0}

    @precondition(lambda self: self.works.wire.under_way)
    @rule(pick=st.integers(0, 9), status=st.sampled_from([0, 204, 404, 413, 500, 500]))
    def answer(self, pick: int, status: int) -> None:
        found = sorted(self.sent().items())
        id, slot = found[pick % len(found)]
        now_ns, known = self.works.harness.now_ns, self.model[id]
        known["attempts"] += 1
        if known["first"] is None:
            known["first"] = now_ns
        since, delays = EXPECTED[self.choice]
        if status == 204:
            known["state"] = "delivered"
        elif known["attempts"] > len(delays) or (self.choice == 4 and 400 <= status < 500):
            known["state"] = "dead"
        else:
            delay_ns = delays[known["attempts"] - 1] * S
            known["state"] = "waiting"
            known["due"] = max(now_ns, (known["first"] if since == "first" else now_ns) + delay_ns)
        slot.started_ns = now_ns - 1000 * 1000
        self.works.answer(slot, status, code=0 if status else 7)
        self.works.harness.step()

    @rule(seconds=st.sampled_from([0, 1, 3, 14, 15, 106, 3600]))
    def time_passes(self, seconds: int) -> None:
        self.works.harness.now_ns += seconds * S
        self.works.when(lambda: not self.works.step())
        for known in self.model.values():
            if known["state"] == "waiting" and known["due"] <= self.works.harness.now_ns:
                known["state"] = "sending"

    @invariant()
    def each_event_is_in_one_place(self) -> None:
        """Under way, waiting until it is due, or ended; attempted as often as it was sent."""
        stored = rows(self.works.harness)
        sending = self.sent()
        for id, known in self.model.items():
            assert (id in sending) == (known["state"] == "sending"), id
            row = stored.get(id)
            if row is None:  # it never left its ring
                assert known["attempts"] == (known["state"] == "delivered")
                continue
            assert row.attempts == known["attempts"]
            if known["state"] == "waiting":
                assert (State(row.state), row.due_ns) == (State.WAITING, known["due"])
            elif known["state"] != "sending":
                assert State(row.state).name.lower() == known["state"]

    @invariant()
    def the_books_balance(self) -> None:
        """accepted = delivered + dead + dropped + pending, and nothing was dropped."""
        harness = self.works.harness
        stats = read_stats(harness.path).endpoint("a")
        found = [known["state"] for known in self.model.values()]
        assert (stats.delivered, stats.dead) == (found.count("delivered"), found.count("dead"))
        assert stats.dropped == {}
        waits = sum(row.state == State.WAITING for row in rows(harness).values())
        assert stats.stored == waits


TestDeliveries = Deliveries.TestCase
# An example makes a data directory: it is not made a hundred times to find a shorter one.
TestDeliveries.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)

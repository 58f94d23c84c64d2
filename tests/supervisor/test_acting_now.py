"""What an operator does about an endpoint in trouble: close its breaker, retry, test, send again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fluxhook import Breaker, Duration, Retry
from fluxhook import control as c
from fluxhook.errors import Conflict
from fluxhook.policy import breaker
from fluxhook.stats import read_stats
from fluxhook.store import State
from fluxhook.store.audit import read_changes, timestamp
from fluxhook.store.delivery_id import shown_id
from fluxhook.transport import datadir as d
from support.scheduler_harness import S, SchedulerHarness
from support.stored import SCHEDULE, endpoint, head, head_id, known, rows, states, taken

MINUTE = Breaker(failure_threshold=1, reset_timeout=Duration.parse("1m"))
ALL = c.Walk({"endpoint": "a"})


@pytest.fixture
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SchedulerHarness]:
    """One with an endpoint "a" whose breaker opens for a minute; an indirect parameter has more
    options of it."""
    options = {"circuit_breaker": MINUTE, "record": "all"} | getattr(request, "param", {})
    with SchedulerHarness(tmp_path / "data", endpoint(**options)) as harness:
        yield harness


def fail(harness: SchedulerHarness, n: int) -> list[int]:
    """Have n events wait for their second attempt; return the deliveries' ids."""
    for i in range(n):
        harness.first_failure(f"evt_{i:04}")
    found = rows(harness)
    return [found[f"evt_{i:04}"].id for i in range(n)]


def open_breaker(harness: SchedulerHarness) -> int:
    """Return until when it holds, as an answer shows it."""
    opened = breaker.State("open", harness.supervisor.clock.now_ns() // 1_000_000)
    harness.word(0, d.BREAKER, breaker.pack(opened))
    until_ns = (opened.value + 60_000) * 1_000_000
    return harness.supervisor.clock.wall_ns(until_ns)


def actions(harness: SchedulerHarness) -> list[str]:
    return [entry.action for entry in read_changes(harness.path / "audit")]


def retry(harness: SchedulerHarness, ids: list[int], walk: c.Walk = ALL) -> int:
    return harness.ask(c.Retry("a", ids, walk), c.Done).count


# ---- retry now -------------------------------------------------------------------------------


def test_all_that_wait_are_due_now(harness: SchedulerHarness) -> None:
    """With what is known of them; what is due already is no news."""
    ids = fail(harness, 3)
    assert taken(harness) == []
    before = rows(harness)
    assert retry(harness, [*ids, ids[0], 4711]) == 3
    assert {head(one).delivery_id for one in taken(harness)} == set(ids)
    for id, row in rows(harness).items():
        was = before[id]
        assert (row.attempts, row.cause, row.error) == (was.attempts, was.cause, was.error)
    assert retry(harness, ids) == 0
    assert actions(harness) == ["webhook.retry"]


def test_an_attempt_counts_as_the_schedule_counts(harness: SchedulerHarness) -> None:
    """The second attempt, made early, is followed by the third in its time, and by none after the
    last."""
    (id,) = fail(harness, 1)
    for n in range(2, 2 + len(SCHEDULE)):
        retry(harness, [id])
        (delivery,) = taken(harness)
        assert head(delivery).attempts == n - 1
        harness.fail(known(harness, id), "retry")
    row = rows(harness)["evt_0000"]
    assert (State(row.state), row.attempts) == (State.DEAD, 1 + len(SCHEDULE))


def test_a_request_changes_a_bounded_number(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it names: the scheduler has its turn after each."""
    looked: list[int] = []

    def looking(id: int) -> None:
        looked.append(id)

    monkeypatch.setattr(harness.store, "delivery", looking)
    assert retry(harness, list(range(1, 3 * c.MAX_IDS))) == 0
    assert len(looked) == c.MAX_IDS


def test_what_is_with_a_worker_is_not_sent_twice(harness: SchedulerHarness) -> None:
    """It stays with that worker, whose report ends it."""
    ids = fail(harness, 2)
    harness.now_ns += 16 * S
    assert len(taken(harness)) == 2
    assert retry(harness, ids) == 0
    with pytest.raises(Conflict, match=f"{shown_id(ids[0])} is with a worker already"):
        harness.ask(c.RetryDelivery(ids[0]), c.Done)
    assert taken(harness) == []
    assert actions(harness) == []


def test_one_delivery_is_due_now(harness: SchedulerHarness) -> None:
    """That one alone; where it does not wait the answer says what can be done instead."""
    ids = fail(harness, 2)
    assert harness.ask(c.RetryDelivery(ids[1]), c.Done).count == 1
    (delivery,) = taken(harness)
    assert head(delivery).delivery_id == ids[1]
    entry = list(read_changes(harness.path / "audit"))[-1]
    assert (entry.action, entry.target, entry.endpoint) == (
        "delivery.retry", shown_id(ids[1]), "a",
    )  # fmt: skip
    assert entry.before["due_at"] > entry.after["due_at"]
    assert harness.ask(c.RetryDelivery(4711), c.Done).count == 0
    harness.fail(harness.fresh("evt_dead"), "dead", "client_error", 404)
    harness.reporter.report(
        harness.fresh("evt_fine"), "delivered", "", harness.attempt("delivered", 200)
    )
    harness.step()
    found = rows(harness)
    for event, said in (("evt_dead", "is a dead letter; replay it"), ("evt_fine", "resend it")):
        with pytest.raises(Conflict, match=said):
            harness.ask(c.RetryDelivery(found[event].id), c.Done)


@pytest.mark.parametrize(
    "harness", [{"ordered": True, "order_key": "topic", "concurrency": 4}], indirect=True
)
def test_the_order_of_a_key_stays(harness: SchedulerHarness) -> None:
    """The first of a key is due now, and those behind it wait for it."""
    fail(harness, 1)
    for event in ("evt_0001", "evt_0002"):
        harness.reporter.report(harness.fresh(event), "parked", "order")
    harness.step()
    ids = [row.id for row in sorted(rows(harness).values(), key=lambda row: row.id)]
    assert states(harness) == {
        "evt_0000": "waiting", "evt_0001": "blocked", "evt_0002": "blocked",
    }  # fmt: skip
    with pytest.raises(Conflict, match="waits behind an earlier delivery of its order key"):
        harness.ask(c.RetryDelivery(ids[1]), c.Done)
    assert retry(harness, ids) == 1
    (delivery,) = taken(harness)
    assert head_id(harness, delivery) == "evt_0000"
    harness.reporter.report(
        known(harness, ids[0]), "delivered", "", harness.attempt("delivered", 200)
    )
    (delivery,) = taken(harness)
    assert head_id(harness, delivery) == "evt_0001"


def paused(harness: SchedulerHarness) -> None:
    harness.ask(c.Pause("a"), c.Done)


def disabled(harness: SchedulerHarness) -> None:
    harness.store.disable_endpoint(0, 1, "gone")
    harness.supervisor.live.refresh(0.0, disabled=True)


def misconfigured(harness: SchedulerHarness) -> None:
    harness.word(0, d.UNBUILT, 1)
    harness.supervisor.live.refresh(1e12, disabled=False)


def off(harness: SchedulerHarness) -> None:
    live = harness.supervisor.live
    live.load(msgspec.structs.replace(live.subscriptions.config, enabled=False))


@pytest.mark.parametrize(
    ("halt", "said"),
    [
        (paused, "'a' is paused; resume it first"),
        (disabled, "'a' is disabled; resume it first"),
        (misconfigured, "'a' is misconfigured, so nothing can be sent: a worker could not"),
        (off, "enabled: false"),
        (open_breaker, r"the breaker of 'a' is open until 2.*Z, .* close it first"),
    ],
)
def test_what_stands_in_the_way_of_a_retry_is_said(
    harness: SchedulerHarness, halt: Callable[[SchedulerHarness], Any], said: str
) -> None:
    """With the remedy; nothing is made due."""
    (id,) = fail(harness, 1)
    due_ns = rows(harness)["evt_0000"].due_ns
    halt(harness)
    n = len(actions(harness))
    for request in (c.Retry("a", [id], ALL), c.RetryDelivery(id)):
        with pytest.raises(Conflict, match=said):
            harness.ask(request, c.Done)
    assert rows(harness)["evt_0000"].due_ns == due_ns
    assert len(actions(harness)) == n


def test_a_walk_ends_although_what_it_sends_opens_the_breaker(harness: SchedulerHarness) -> None:
    """Its later steps are not refused: what they make due waits for the breaker."""
    ids = fail(harness, 4)
    assert retry(harness, ids[:2], c.Walk({"endpoint": "a"}, 0, True)) == 2
    open_breaker(harness)
    assert retry(harness, ids[2:], c.Walk({"endpoint": "a"}, ids[1], False)) == 2
    assert actions(harness) == ["webhook.retry"]


# ---- an open breaker -------------------------------------------------------------------------


def test_a_breaker_that_is_closed_now_lets_requests_go(harness: SchedulerHarness) -> None:
    """At once and as many as ever; the next failures open it as ever."""
    harness.reporter.report(
        harness.fresh("evt_0000"), "parked", "breaker_open", not_before_ns=harness.now_ns + 60 * S
    )
    harness.step()
    open_breaker(harness)
    harness.ask(c.CloseBreaker("a"), c.Done)
    assert harness.word(0, d.BREAKER) == 0
    entry = list(read_changes(harness.path / "audit"))[-1]
    assert (entry.action, entry.target) == ("webhook.close-breaker", "a")
    assert (entry.before, entry.after) == ({"breaker": "open"}, {"breaker": "closed"})
    held = rows(harness)["evt_0000"].id
    assert retry(harness, [held], c.Walk({"endpoint": "a", "cause": "breaker_open"})) == 1
    assert len(taken(harness)) == 1


def test_an_endpoint_whose_breaker_was_closed_does_not_go_on_as_failing(
    harness: SchedulerHarness,
) -> None:
    """A success behind a closed breaker clears nothing, so closing it does."""
    open_breaker(harness)
    harness.word(0, d.FAILING, harness.now_ns)
    assert read_stats(harness.path).endpoint("a").failing_since_ns is not None
    harness.ask(c.CloseBreaker("a"), c.Done)
    assert read_stats(harness.path).endpoint("a").failing_since_ns is None


def test_closing_a_closed_breaker_changes_nothing(harness: SchedulerHarness) -> None:
    """Two admins may do so at once; a damaged word is made sound."""
    harness.ask(c.CloseBreaker("a"), c.Done)
    harness.word(0, d.BREAKER, 2**63)
    harness.ask(c.CloseBreaker("a"), c.Done)
    assert harness.word(0, d.BREAKER) == 0
    first, second = read_changes(harness.path / "audit")
    assert (first.before, second.before) == ({}, {"breaker": "damaged"})


def test_a_test_behind_an_open_breaker_says_so(harness: SchedulerHarness) -> None:
    """And when it is attempted, which is when it goes; without one it goes at once."""
    sent = harness.ask(c.Test("a", "webhook.test", None), c.TestSent)
    assert sent.held_until_ns is None
    until_ns = open_breaker(harness)
    held = harness.ask(c.Test("a", "webhook.test", None), c.TestSent)
    assert held.held_until_ns == until_ns
    assert rows(harness)[held.event_id].cause == "breaker_open"


# ---- send again ------------------------------------------------------------------------------


def deliver(harness: SchedulerHarness, event: str, body: bytes = b'{"n": 1}') -> int:
    harness.reporter.report(
        harness.fresh(event, body=body), "delivered", "", harness.attempt("delivered", 200)
    )
    harness.step()
    return rows(harness)[event].id


def test_what_was_delivered_is_sent_again(harness: SchedulerHarness) -> None:
    """As a new delivery of the same event id and body, which is accounted for."""
    id = deliver(harness, "evt_1", b'{"n": 42}')
    before = read_stats(harness.path).endpoint("a")
    resent = harness.ask(c.Resend(id), c.Resent).sent
    assert resent is not None
    assert (resent.event_id, resent.held_until_ns) == ("evt_1", None)
    assert resent.delivery_id != id
    (delivery,) = taken(harness)
    assert (head_id(harness, delivery), delivery.body) == ("evt_1", b'{"n": 42}')
    waiting = read_stats(harness.path).endpoint("a")
    assert waiting.accepted == before.accepted + 1
    assert waiting.stored == before.stored + 1
    harness.reporter.report(
        known(harness, resent.delivery_id), "delivered", "", harness.attempt("delivered", 200)
    )
    harness.step()
    after = read_stats(harness.path).endpoint("a")
    assert (after.stored, after.delivered) == (before.stored, before.delivered + 1)
    entry = list(read_changes(harness.path / "audit"))[-1]
    assert (entry.action, entry.target, entry.endpoint) == ("delivery.resend", shown_id(id), "a")
    assert entry.after == {"event_id": "evt_1", "type": "route.error"}


def test_what_cannot_be_sent_again_is_refused(harness: SchedulerHarness) -> None:
    """A delivery that did not succeed, with what can be done instead; one that is not kept any more."""
    (waits,) = fail(harness, 1)
    harness.fail(harness.fresh("evt_dead"), "dead", "client_error", 404)
    dead = rows(harness)["evt_dead"].id
    for id, said in ((waits, "waits for an attempt; retry it"), (dead, "replay it instead")):
        with pytest.raises(Conflict, match=f"{shown_id(id)} was not delivered.*{said}"):
            harness.ask(c.Resend(id), c.Resent)
    assert harness.ask(c.Resend(4711), c.Resent).sent is None
    id = deliver(harness, "evt_fine")
    harness.store.db.execute("DELETE FROM bodies WHERE id = ?", (id,))
    with pytest.raises(Conflict, match="the body of dlv_.* is not kept"):
        harness.ask(c.Resend(id), c.Resent)
    kept = deliver(harness, "evt_kept")
    paused(harness)
    with pytest.raises(Conflict, match="is paused; resume it first"):
        harness.ask(c.Resend(kept), c.Resent)
    harness.reopen(endpoint(name="b", retry=Retry()))
    with pytest.raises(Conflict, match="webhook 'a' was removed"):
        harness.ask(c.Resend(kept), c.Resent)


def test_what_is_sent_again_behind_an_open_breaker_says_so(harness: SchedulerHarness) -> None:
    """As a test event does."""
    id = deliver(harness, "evt_1")
    until_ns = open_breaker(harness)
    resent = harness.ask(c.Resend(id), c.Resent).sent
    assert resent is not None
    assert resent.held_until_ns is not None
    assert timestamp(resent.held_until_ns) == timestamp(until_ns)


def test_a_record_that_fails_prevents_the_change(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the entry and the effect leaves what waits as it was; asked again it is made."""
    (id,) = fail(harness, 1)
    delivered = deliver(harness, "evt_fine")
    due_ns = rows(harness)["evt_0000"].due_ns

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    for request in (c.Retry("a", [id], ALL), c.RetryDelivery(id), c.Resend(delivered)):
        with monkeypatch.context() as patched:
            patched.setattr(harness.store, "transaction", killed)
            with pytest.raises(Killed):
                harness.ask(request, c.Done)
    assert actions(harness) == ["webhook.retry", "delivery.retry", "delivery.resend"]
    harness.reopen()
    found = rows(harness)
    assert found.keys() == {"evt_0000", "evt_fine"}
    assert found["evt_0000"].due_ns == due_ns
    assert retry(harness, [id]) == 1

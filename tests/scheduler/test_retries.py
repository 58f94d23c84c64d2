"""From the store to a worker: what is due is handed out.

The scheduler runs as in production, under a clock that the test moves; the worker is the test.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

from fluxhook import Batch, Breaker, Duration
from fluxhook._native import ring
from fluxhook.policy import breaker
from fluxhook.policy.breaker import State as BreakerState
from fluxhook.scheduler import retries, step_limits
from fluxhook.scheduler.endpoints import FAULT_BACKOFF_NS
from fluxhook.scheduler.scheduler import STORE_BACKOFF_NS
from fluxhook.store import State, StoreError
from fluxhook.transport import datadir as d
from fluxhook.transport.messages import DueHead
from support.scheduler_harness import S, SchedulerHarness
from support.scheduler_parts import NOW, Parts
from support.stored import defer, endpoint, head, head_id, known, rows, states, taken


@pytest.fixture
def harness(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SchedulerHarness]:
    """One with an endpoint "a"; an indirect parameter has more options of it."""
    with SchedulerHarness(tmp_path / "data", endpoint(**getattr(request, "param", {}))) as harness:
        yield harness


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
    assert harness.scheduler.leases.sent == [{row.id}]
    delivery.id = row.id
    harness.fail(delivery)
    assert harness.scheduler.leases.sent == [set()]
    harness.now_ns = began_ns + 120 * S
    (delivery,) = taken(harness)
    assert not head(delivery).fresh  # the receiver has answered


@pytest.mark.parametrize("harness", [{"concurrency": 2}], indirect=True)
def test_an_endpoint_has_a_window(harness: SchedulerHarness) -> None:
    """So many of its deliveries are out at a time."""
    defer(harness, 100)
    assert len(taken(harness)) == 2 * retries.AHEAD
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
    monkeypatch.setattr(retries, "AHEAD", 16)
    monkeypatch.setattr(retries, "OUT_FREELY", 100)
    monkeypatch.setattr(harness.scheduler.leases, "sent", [set(range(elsewhere)), set()])
    monkeypatch.setattr(harness.store, "leased", lambda id: out)
    found = harness.scheduler.retries.room(0, endpoint(concurrency=2), harness.now_ns)
    assert found == (room, step_limits.NEVER_NS)


@pytest.mark.parametrize(
    "harness", [{"concurrency": 2, "batch": Batch(max_events=10)}], indirect=True
)
def test_a_batching_endpoint_has_a_larger_window(harness: SchedulerHarness) -> None:
    """As many times as many as a batch may have."""
    defer(harness, 500)
    assert len(taken(harness)) == 2 * 10 * retries.AHEAD


BREAKER = {"circuit_breaker": Breaker(failure_threshold=3, reset_timeout=Duration(60 * S))}


@pytest.mark.parametrize("harness", [BREAKER], indirect=True)
def test_nothing_is_handed_out_to_an_open_breaker(harness: SchedulerHarness) -> None:
    """Until its reset_timeout is over; then one, as a probe, and one more when that is back."""
    opened_ms = harness.now_ns // 1_000_000 + 1
    harness.word(0, d.BREAKER, breaker.pack(BreakerState("open", opened_ms)))
    defer(harness, 5)
    assert taken(harness) == []
    assert harness.scheduler.retries.feed(harness.now_ns)[0] == opened_ms * 1_000_000 + 60 * S
    harness.now_ns = opened_ms * 1_000_000 + 60 * S - 1
    assert taken(harness) == []
    harness.now_ns += 1
    (delivery,) = taken(harness)
    assert taken(harness) == []
    assert harness.scheduler.retries.feed(harness.now_ns)[0] == harness.now_ns + 100_000_000
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
    defer(harness, 3)
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
    room, again_ns = harness.scheduler.retries.room(0, endpoint(**BREAKER), opened_ns + at_ns)
    assert (room, again_ns - opened_ns) == found


def test_a_paused_endpoint_gets_nothing(tmp_path: Path) -> None:
    """Deliveries that are due wait, and hold nobody up."""
    paused = endpoint(name="paused", paused=True)
    with SchedulerHarness(tmp_path / "data", paused, endpoint(name="b")) as harness:
        defer(harness, 3)
        harness.reporter.report(harness.fresh("evt_b", endpoint=1), "parked", "paused")
        assert [delivery.endpoint for delivery in taken(harness)] == [1]
        assert harness.scheduler.retries.feed(harness.now_ns)[0] == step_limits.NEVER_NS


def test_of_a_removed_endpoint_all_is_dead(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In steps of so many, one after the other."""
    defer(harness, 8)
    harness.step()
    monkeypatch.setattr(step_limits, "DELIVERIES", 3)
    harness.store.release(list(harness.store.leases.out))
    harness.scheduler.endpoints.by_id = {}
    left = []
    for _ in range(4):
        _, more = harness.scheduler.retries.feed(harness.now_ns)
        left.append((harness.word(0, d.STORED), more))
    assert left == [(5, True), (2, True), (0, True), (0, False)]
    assert set(states(harness).values()) == {"dead"}
    assert {row.cause for row in rows(harness).values()} == {"removed"}


def test_of_a_disabled_endpoint_all_is_dead(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says that it was disabled."""
    monkeypatch.setattr(harness.scheduler, "feeding", False)
    defer(harness, 2)
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
        monkeypatch.setattr(harness.scheduler, "feeding", False)
        defer(harness, 3)
        harness.reporter.report(harness.fresh("evt_b", endpoint=1), "parked", "paused")
        harness.step()
        monkeypatch.setattr(step_limits, "DELIVERIES", 3)
        harness.scheduler.endpoints.by_id = {1: endpoint(name="b")}
        harness.scheduler.retries.feed(harness.now_ns)
        assert harness.take() == []
        harness.scheduler.retries.feed(harness.now_ns)
        assert [delivery.endpoint for delivery in harness.take()] == [1]


def test_each_endpoint_has_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step hands out so many; the next one goes on with the endpoints that had none."""
    names = [endpoint(name=name) for name in "abc"]
    with SchedulerHarness(tmp_path / "data", *names) as harness:
        for id, n in ((0, 9), (1, 2), (2, 2)):
            for i in range(n):
                delivery = harness.fresh(f"evt_{id}_{i}", endpoint=id)
                harness.reporter.report(delivery, "parked", "paused")
        monkeypatch.setattr(harness.scheduler, "feeding", False)
        harness.step()
        monkeypatch.setattr(step_limits, "DELIVERIES", 2)
        turns = []
        for _ in range(5):
            _, more = harness.scheduler.retries.feed(harness.now_ns)
            turns.append([delivery.endpoint for delivery in harness.inbox.take(100)])
            assert more
        assert turns == [[0, 0], [1, 1], [2, 2], [0, 0], [0, 0]]


def test_a_turn_that_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once all had theirs, the next begins anew."""
    with SchedulerHarness(tmp_path / "data", endpoint(), endpoint(name="b")) as harness:
        monkeypatch.setattr(harness.scheduler, "feeding", False)
        monkeypatch.setattr(step_limits, "DELIVERIES", 2)
        turns = []
        for _ in range(2):
            for id, n in ((0, 2), (1, 1)):
                for i in range(n):
                    harness.reporter.report(
                        harness.fresh(f"evt_{i}", endpoint=id), "parked", "paused"
                    )
            harness.step()
            for expected in (True, False):
                _, more = harness.scheduler.retries.feed(harness.now_ns)
                turns.append([delivery.endpoint for delivery in harness.inbox.take(100)])
                assert more is expected
        assert turns == [[0, 0], [1], [0, 0], [1]]
        _, more = harness.scheduler.retries.feed(harness.now_ns)
        assert not more


@pytest.mark.parametrize(
    ("harness", "n", "later_s", "handed_out", "wake_s"),
    [
        ({}, 1, 5, 1, 5),  # the next is not due yet
        ({}, 1, None, 1, None),
        ({"concurrency": 1}, retries.AHEAD + 3, 5, retries.AHEAD, None),  # a report will come first
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
    monkeypatch.setattr(harness.scheduler, "feeding", False)
    defer(harness, n)
    if later_s is not None:
        at_ns = harness.now_ns + later_s * S
        harness.reporter.report(harness.fresh("evt_z"), "parked", "paused", not_before_ns=at_ns)
    harness.step()
    wake_ns, _ = harness.scheduler.retries.feed(harness.now_ns)
    assert wake_ns == (step_limits.NEVER_NS if wake_s is None else harness.now_ns + wake_s * S)
    assert len(harness.inbox.take(100)) == handed_out


def test_each_is_handed_out_when_it_is_due(harness: SchedulerHarness) -> None:
    """The scheduler says when the next is."""
    for n in (3, 1, 2):
        harness.reporter.report(
            harness.fresh(f"evt_{n}"), "parked", "paused", not_before_ns=harness.now_ns + n * S
        )
    begun_ns = harness.now_ns
    for n in (1, 2, 3):
        assert taken(harness) == []
        assert harness.scheduler.retries.feed(harness.now_ns)[0] == begun_ns + n * S
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

    defer(harness, 5)
    monkeypatch.setattr(harness.scheduler.retries, "inboxes", [Full()])
    harness.step()
    assert len(harness.store.leases.out) == len(harness.scheduler.leases.sent[0]) == 2
    assert harness.scheduler.retries.feed(harness.now_ns)[0] == harness.now_ns + 10_000_000
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

    defer(harness, 5)
    monkeypatch.setattr(harness.scheduler.retries, "inboxes", [Odd()])
    harness.step()
    assert len(harness.scheduler.leases.sent[0]) == 2
    assert harness.store.leases.out.keys() == harness.scheduler.leases.sent[0]
    monkeypatch.undo()
    harness.now_ns += FAULT_BACKOFF_NS
    assert len(taken(harness)) == 3


def test_an_event_that_no_inbox_takes(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came under a larger max_event_bytes: a dead letter that says so, and out with nobody."""

    class Small:
        def put(self, *_: object) -> int:
            return ring.TOO_LARGE

    defer(harness, 2)
    monkeypatch.setattr(harness.scheduler.retries, "inboxes", [Small()])
    harness.step()
    assert set(states(harness).values()) == {"dead"}
    for row in rows(harness).values():
        assert row.cause == "payload_too_large"
        assert "raise that" in row.error
        assert row.ended_ns is not None
    assert harness.scheduler.leases.sent == [set()]
    assert harness.word(0, d.STORED) == 0


def test_the_worker_that_has_least(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gets the next delivery of an endpoint that no worker has for itself."""
    assert harness.scheduler.retries.idlest() == 0
    monkeypatch.setattr(harness.scheduler.retries, "inboxes", [None, None])
    monkeypatch.setattr(harness.scheduler.leases, "sent", [{1, 2}, {3}])
    assert harness.scheduler.retries.idlest() == 1
    monkeypatch.setattr(harness.scheduler.retries, "inboxes", [None, None, None])
    monkeypatch.setattr(harness.scheduler.leases, "sent", [{1, 2}, {3}, {4, 5}])
    assert harness.scheduler.retries.idlest() == 1
    monkeypatch.setattr(harness.scheduler.retries, "leaving", frozenset({1}))
    assert harness.scheduler.retries.idlest() == 0


@pytest.mark.parametrize("harness", [{}, {"ordered": True}], indirect=True)
def test_a_worker_that_leaves_gets_nothing(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is gone, what only it could have waits; the others are looked at again soon."""
    defer(harness, 3)
    inbox = harness.scheduler.retries.inboxes[0]
    monkeypatch.setattr(harness.scheduler, "feeding", False)
    harness.step()
    monkeypatch.setattr(harness.scheduler.retries, "inboxes", [inbox, inbox])
    monkeypatch.setattr(harness.scheduler.leases, "sent", [set(), set()])
    ordered = harness.endpoint("a").ordered
    for leaving, out in (({0, 1}, 0), ({0}, 0 if ordered else 3)):
        monkeypatch.setattr(harness.scheduler.retries, "leaving", frozenset(leaving))
        wake_ns, _ = harness.scheduler.retries.feed(harness.now_ns)
        assert [len(sent) for sent in harness.scheduler.leases.sent] == [0, out]
        assert len(harness.store.leases.out) == out
        assert out or wake_ns == harness.now_ns + 10_000_000


def test_what_is_not_due_needs_no_worker(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler is not woken for it while all of them leave."""
    far = harness.now_ns + 77 * S
    harness.reporter.report(harness.fresh("evt_a"), "parked", "paused", not_before_ns=far)
    harness.step()
    monkeypatch.setattr(harness.scheduler.retries, "leaving", frozenset({0}))
    assert harness.scheduler.retries.feed(harness.now_ns)[0] == far


@pytest.mark.parametrize(
    ("ring", "workers", "worker"), [(None, 2, None), (0, 2, 0), (1, 2, 1), (5, 2, 1), (3, 4, 3)]
)
def test_the_worker_of_a_ring(
    harness: SchedulerHarness, ring: int | None, workers: int, worker: int | None
) -> None:
    """Ring n is read by worker n modulo the workers, also where there were more of them before."""
    ordered = endpoint(ordered=ring is not None)
    rings = {} if ring is None else {0: ring}
    snapshot = msgspec.structs.replace(
        harness.supervisor.snapshot, workers=workers, assigned_rings=rings
    )
    assert snapshot.assigned_worker(ordered) == worker


def test_an_ordered_endpoint_has_one_worker(tmp_path: Path) -> None:
    """All of its deliveries go there, however much that has to do."""
    ordered = endpoint(ordered=True, on_head_failure="park")
    with SchedulerHarness(tmp_path / "data", ordered) as harness:
        assert harness.supervisor.snapshot.assigned_worker(ordered) == 0
        harness.scheduler.leases.sent.append(set())
        harness.scheduler.retries.inboxes.append(harness.scheduler.retries.inboxes[0])
        defer(harness, 3)
        taken(harness)
        assert [len(sent) for sent in harness.scheduler.leases.sent] == [3, 0]


def test_a_fault_at_one_endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left alone for a while, of which the scheduler is woken; the others get theirs. A store
    that fails is no fault of an endpoint."""
    with SchedulerHarness(tmp_path / "data", endpoint(), endpoint(name="b")) as harness:
        defer(harness, 1)
        harness.reporter.report(harness.fresh("evt_b", endpoint=1), "parked", "paused")
        real = harness.scheduler.retries.room

        def room(endpoint_id: int, *more: Any) -> tuple[int, int]:
            if endpoint_id == 0:
                raise RuntimeError("odd")
            return real(endpoint_id, *more)

        monkeypatch.setattr(harness.scheduler.retries, "room", room)
        with caplog.at_level(logging.ERROR, "fluxhook"):
            assert [delivery.endpoint for delivery in taken(harness)] == [1]
        assert (
            harness.scheduler.retries.feed(harness.now_ns)[0] == harness.now_ns + FAULT_BACKOFF_NS
        )
        assert len(caplog.records) == 1
        harness.step()
        assert len(caplog.records) == 1

        def full(*_: object) -> NoReturn:
            raise StoreError("full")

        monkeypatch.setattr(harness.scheduler.retries, "room", full)
        harness.reporter.report(harness.fresh("evt_c", endpoint=1), "parked", "paused")
        harness.step()
        assert harness.scheduler.endpoints.faulty.keys() == {0}
        assert harness.wake_ns == harness.now_ns + STORE_BACKOFF_NS


# ---- the part alone ------------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    with Parts(tmp_path / "alone", endpoint(), endpoint(name="b")) as parts:
        yield parts


def heads(parts: Parts) -> list[DueHead]:
    """Return what the inbox says of each delivery in it."""
    consumer = ring.Consumer(str(parts.datadir.worker(0) / "inbox.ring"))
    consumer.rewind()
    return [head(delivery) for delivery in consumer.take(100)]


def inbox(parts: Parts) -> list[int]:
    return [one.delivery_id for one in heads(parts)]


def suspected(parts: Parts) -> list[int]:
    return [one.delivery_id for one in heads(parts) if one.suspect]


def test_what_is_handed_out(parts: Parts) -> None:
    """All that is due of either endpoint is leased, and known to be with its worker."""
    due, later, (other,) = parts.add(2), parts.add(due_ns=NOW + S), parts.add(endpoint=1)
    retries = parts.retries()
    assert retries.feed(NOW) == (NOW + S, False)
    assert inbox(parts) == [*due, other]
    assert parts.leases.sent == [{*due, other}]
    assert {parts.state(id) for id in (*due, other)} == {"sending"}
    assert parts.state(*later) == "waiting"
    assert retries.feed(NOW) == (NOW + S, False)
    assert inbox(parts) == [*due, other]


def test_an_inbox_of_an_engine_before_is_emptied(parts: Parts) -> None:
    """Its rows are in the store, and are handed out anew: once."""
    ids = parts.add(3)
    parts.retries().feed(NOW)
    assert inbox(parts) == ids
    parts.store.release(parts.leases.take_back_sent(0))
    retries = parts.retries()
    assert inbox(parts) == []
    retries.feed(NOW)
    assert inbox(parts) == ids


@pytest.mark.parametrize("by_own_fault", [False, True])
def test_what_was_taken_over_from_a_lost_worker(parts: Parts, by_own_fault: bool) -> None:
    """It waits for the worker's last report, and then for nothing; as a suspect, for its turn."""
    first, second = parts.add(2, leased=True)
    parts.leases.add_worker()
    for seq, id in enumerate((first, second)):
        parts.leases.take_over(0, id, seq)
    retries = parts.retries()
    retries.worker_lost(0, 1, by_own_fault=by_own_fault)
    retries.release_lost([0], NOW)
    assert (parts.state(first), parts.state(second)) == ("sending", "sending")
    retries.release_lost([1], NOW)
    assert (parts.state(first), parts.state(second)) == ("waiting", "sending")
    assert (retries.lost, retries.lost_by_fault) == ({}, set())
    assert parts.row(first).cause == ("suspect" if by_own_fault else "")
    retries.feed(NOW)
    assert inbox(parts) == ([] if by_own_fault else [first])
    parts.suspects.try_next(NOW)
    retries.feed(NOW)
    assert inbox(parts) == [first]
    assert suspected(parts) == ([first] if by_own_fault else [])


def test_giving_up_is_work(parts: Parts) -> None:
    """There may be more of it now; not where an endpoint that gets nothing has nothing that waits."""

    def end_one() -> None:
        (ended,) = parts.add(endpoint=1)
        parts.end(ended, "delivered")

    parts.add()
    end_one()
    parts.configure(disabled=frozenset({"a", "b"}))
    retries = parts.retries()
    assert retries.feed(NOW) == (step_limits.NEVER_NS, True)
    end_one()
    assert retries.feed(NOW) == (step_limits.NEVER_NS, False)


def test_another_number_of_workers(parts: Parts) -> None:
    """Deliveries that were out with one that has no successor are handed out again."""
    ids = parts.add(2)
    retries = parts.retries()
    retries.feed(NOW)
    retries.spare_workers([0])
    retries.change_workers(0)
    assert {parts.state(id) for id in ids} == {"waiting"}
    assert parts.leases.sent == [set()]
    retries.change_workers(1)
    retries.feed(NOW)
    assert inbox(parts) == ids

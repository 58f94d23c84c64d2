"""The figures: where what is pending stands, what failed last, and who did how much."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fluxhook import Endpoint, Engine
from fluxhook import control as c
from fluxhook import stats as stats_module
from fluxhook._native import ring
from fluxhook.policy import breaker
from fluxhook.policy.failing import RECENT_NS
from fluxhook.publisher.publisher import Publisher
from fluxhook.receiver import Behaviour
from fluxhook.stats import EndpointStats, Stats, read_stats
from fluxhook.store import ReadStore, State
from fluxhook.transport import datadir as d
from support.rig import Rig, seconds, until
from support.scheduler_harness import S, SchedulerHarness
from support.store_rows import deliveries

OPS = Endpoint(name="ops", url="https://ops.example/", signature="none")
#: the words of a breaker in these states
WORDS = {
    "open": breaker.pack(breaker.State("open", 1)),
    "half-open": breaker.pack(breaker.State("half_open", 1)),
}


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SchedulerHarness]:
    with SchedulerHarness(tmp_path / "data", OPS) as harness:
        yield harness


def figures(harness: SchedulerHarness) -> EndpointStats:
    return read_stats(harness.path).endpoint("ops")


def test_before_anything_happened(harness: SchedulerHarness) -> None:
    """Nothing is a number that was never measured."""
    stats = figures(harness)
    assert (stats.accepted, stats.pending, stats.balance) == (0, 0, 0)
    assert stats.oldest_pending_ns is stats.next_retry_ns is None
    assert stats.last_error is None
    assert stats.success_rate is stats.event_success_rate is None
    assert (stats.dead_by_cause, stats.died_by_cause, stats.dead_cause) == ({}, {}, "")
    assert (stats.state, stats.past_due_ns) == ("active", 0)
    assert stats.latency_ms is None
    assert stats.failing_since_ns is None
    assert stats.disabled_reason == ""


def test_what_waits_in_the_store(harness: SchedulerHarness) -> None:
    """The statistics say how many, since when the oldest, and when the next is due."""
    begun_ns = harness.now_ns
    harness.first_failure("evt_a")
    harness.now_ns += 5 * S
    harness.first_failure("evt_b")
    stats = figures(harness)
    assert (stats.stored, stats.queued, stats.pending) == (2, 0, 2)
    assert stats.oldest_pending_ns == begun_ns
    assert stats.next_retry_ns is not None
    assert 13.4 * S <= stats.next_retry_ns - begun_ns <= 15 * S
    (delivery,) = harness.sleep_until_due()
    harness.reporter.report(delivery, "delivered", "delivered")
    harness.step()
    stats = figures(harness)
    assert (stats.stored, stats.oldest_pending_ns) == (1, begun_ns + 5 * S)
    (delivery,) = harness.sleep_until_due()
    harness.reporter.report(delivery, "delivered", "delivered")
    harness.step()
    assert figures(harness).oldest_pending_ns is figures(harness).next_retry_ns is None


def test_the_last_error(harness: SchedulerHarness) -> None:
    """The latest failed attempt, whatever came of the delivery; a success leaves it, a parked
    delivery is none."""
    harness.first_failure("evt_a")
    first = figures(harness).last_error
    assert first is not None
    assert (first.at_ns, first.cause, first.error) == (harness.now_ns, "server_error", "no")
    harness.now_ns += S
    harness.fail(harness.fresh("evt_b"), "dead", "timeout", 0)
    second = figures(harness).last_error
    assert second is not None
    assert (second.at_ns, second.cause) == (harness.now_ns, "timeout")
    harness.reporter.report(harness.fresh("evt_c"), "parked", "paused")
    for delivery in harness.sleep_until_due():
        harness.reporter.report(
            delivery, "delivered", "delivered", harness.attempt("delivered", 204)
        )
    harness.step()
    assert figures(harness).last_error == second


def too_large(harness: SchedulerHarness, event_id: str) -> None:
    """An event dies as one that is over max_payload does: without an attempt."""
    harness.reporter.report(harness.fresh(event_id), "dead", "payload_too_large")
    harness.step()


def test_a_half_dead_endpoint_is_failing(harness: SchedulerHarness) -> None:
    """Events die without an attempt while every attempt succeeds and the breaker is closed: state,
    causes, both rates and the last error say so, for fifteen minutes after the last death."""
    harness.now_ns = time.time_ns()
    for n in range(3):
        too_large(harness, f"evt_big_{n}")
        fresh = harness.fresh(f"evt_{n}")
        harness.reporter.report(fresh, "delivered", "delivered", harness.attempt("delivered", 204))
    harness.fail(harness.fresh("evt_x"), "dead", "client_error", 400)
    stats = figures(harness)
    assert (stats.state, stats.dead, stats.dead_cause) == ("failing", 4, "payload_too_large")
    assert stats.dead_by_cause == stats.died_by_cause
    assert stats.dead_by_cause == {"payload_too_large": 3, "client_error": 1}
    assert stats.event_success_rate == pytest.approx(3 / 7)
    too_large(harness, "evt_y")
    stats = figures(harness)
    assert stats.last_error is not None
    assert (stats.last_error.at_ns, stats.last_error.cause) == (harness.now_ns, "payload_too_large")
    died_ns = harness.word(0, d.DIED)
    harness.word(0, d.DIED, died_ns - RECENT_NS)
    assert figures(harness).state == "active"


def test_what_is_given_up_by_order_is_no_failure(tmp_path: Path) -> None:
    """An endpoint that was removed and is there again is active, whatever became of its events."""
    with SchedulerHarness(tmp_path / "data") as harness:
        layer = {"name": "a", "url": OPS.url, "events": ["*"], "signature": "none", "paused": True}
        harness.ask(c.Create(layer), c.Subscription)
        harness.reporter.report(harness.fresh("evt_a"), "parked", "paused")
        harness.step()
        harness.ask(c.Delete("a"), c.Done)
        harness.step()
        harness.ask(c.Create(layer | {"paused": False}), c.Subscription)
        stats = read_stats(harness.path).endpoint("a")
        assert stats.dead_by_cause == {"removed": 1}
        assert (stats.state, stats.last_error) == ("active", None)


def test_resuming_forgets_that_events_died(harness: SchedulerHarness) -> None:
    """The operator has looked at it; the dead letters stay."""
    too_large(harness, "evt_a")
    assert figures(harness).state == "failing"
    harness.ask(c.Pause("ops"), c.Done)
    harness.ask(c.Resume("ops"), c.Done)
    assert (figures(harness).state, figures(harness).dead) == ("active", 1)
    too_large(harness, "evt_b")
    assert figures(harness).state == "failing"


def test_a_time_of_death_that_is_damaged(harness: SchedulerHarness) -> None:
    """One in the future is cleared as an engine starts: the endpoint would fail for ever."""
    harness.word(0, d.DIED, time.time_ns() + 3600 * S)
    assert figures(harness).state == "failing"
    harness.reopen()
    assert (harness.word(0, d.DIED), figures(harness).state) == (0, "active")


def test_a_new_endpoint_at_which_nothing_succeeds(harness: SchedulerHarness) -> None:
    """It is failing from its first failed attempt on, until one succeeds."""
    harness.counters.add(0, d.FAILED)
    harness.first_failure("evt_a")
    assert figures(harness).state == "failing"
    harness.counters.add(0, d.DELIVERED)
    assert figures(harness).state == "active"


def test_what_the_breaker_ignores(harness: SchedulerHarness) -> None:
    """An address that is refused trips no breaker, and its events are tried for hours: it is failing
    until they have ended."""
    harness.now_ns = time.time_ns() - S
    harness.counters.add(0, d.DELIVERED)
    harness.counters.add(0, d.FAILED)
    harness.fail(harness.fresh("evt_a"), "retry", "egress_denied", 0)
    assert figures(harness).state == "failing"
    (delivery,) = harness.sleep_until_due()
    harness.reporter.report(delivery, "delivered", "delivered", harness.attempt("delivered", 204))
    harness.step()
    assert figures(harness).state == "active"


def test_a_receiver_that_fails_now_and_then(harness: SchedulerHarness) -> None:
    """Its retries succeed: it is active while some wait, and its breaker has counted failures."""
    harness.counters.add(0, d.DELIVERED, 70)
    harness.counters.add(0, d.FAILED, 30)
    harness.word(0, d.BREAKER, 2)
    harness.word(0, d.FAILING, time.time_ns() - 30 * S)
    harness.first_failure("evt_a")
    stats = figures(harness)
    assert (stats.state, stats.success_rate, stats.event_success_rate) == ("active", 0.7, 1.0)
    harness.word(0, d.FAILING, time.time_ns() - 61 * S)
    assert figures(harness).state == "failing"


def test_rates_of_events_and_of_attempts() -> None:
    """Each counts its own: events that ended well or badly, attempts that succeeded or failed."""
    one = EndpointStats(
        id=0, name="a", url="", state="active", delivered=4, dead=2, dropped={"expired": 1}
    )
    assert one.success_rate == 1.0
    assert one.event_success_rate == pytest.approx(4 / 7)
    none = EndpointStats(id=0, name="a", url="", state="active", accepted=5, queued=5)
    assert none.success_rate is none.event_success_rate is None


def test_past_due(harness: SchedulerHarness) -> None:
    """The delivery that has been due for the longest counts. Nothing is late before its time, nor while
    an open breaker or a pause holds it."""
    harness.now_ns = time.time_ns()
    harness.first_failure("evt_a")
    assert figures(harness).past_due_ns == 0
    harness.now_ns = time.time_ns() - 3600 * S
    harness.first_failure("evt_b")
    late_ns = figures(harness).past_due_ns
    assert 3570 * S < late_ns < 3600 * S
    opened = breaker.State("open", time.time_ns() // 1_000_000)
    harness.word(0, d.BREAKER, breaker.pack(opened))
    assert (figures(harness).state, figures(harness).past_due_ns) == ("open", 0)
    harness.word(0, d.BREAKER, 0)
    harness.ask(c.Pause("ops"), c.Done)
    assert figures(harness).past_due_ns == 0
    harness.ask(c.Resume("ops"), c.Done)
    assert figures(harness).past_due_ns >= late_ns


def test_they_are_read_while_and_after_an_engine_runs(harness: SchedulerHarness) -> None:
    """They also say if one holds the directory."""
    harness.first_failure("evt_a")
    running = read_stats(harness.path)
    assert running.running
    harness.supervisor.close()
    stopped = read_stats(harness.path)
    assert not stopped.running
    assert stopped.endpoints == running.endpoints
    harness.open()


def test_the_states(tmp_path: Path) -> None:
    """active, paused, disabled, open, half-open, removed: the strongest word wins."""
    layer = {"name": "a", "url": OPS.url, "events": ["*"], "signature": "none"}
    with SchedulerHarness(tmp_path / "data") as harness:

        def state() -> str:
            return read_stats(harness.path).endpoint("a").state

        id = harness.ask(c.Create(layer), c.Subscription).id
        assert state() == "active"
        harness.word(id, d.BREAKER, 1)
        assert state() == "active"
        for name in ("open", "half-open"):
            harness.word(id, d.BREAKER, WORDS[name])
            assert state() == name
        harness.ask(c.Pause("a"), c.Done)
        assert state() == "paused"
        harness.store.disable_endpoint(id, 1, "gone")
        assert state() == "disabled"
        harness.ask(c.Delete("a"), c.Done)
        assert state() == "removed"
        with pytest.raises(KeyError):
            read_stats(harness.path).endpoint("b")


def settled(engine: Engine) -> None:
    assert engine.drain(10), engine.stats()
    assert all(endpoint.balance == 0 for endpoint in engine.stats().endpoints)


def test_who_did_how_much(rig: Rig) -> None:
    """Each publisher and each worker with its own figures; their sums are the endpoints'."""
    rig.receiver.behave(Behaviour(fail_first=3), "/a")
    only = rig.endpoint("b", where=("n >= 8",))
    with rig.engine(rig.endpoint("a"), only, workers=2) as engine:
        for n in range(10):
            engine.emit("order.paid", {"n": n})
        settled(engine)
        stats = engine.stats()
    a, b = stats.endpoint("a"), stats.endpoint("b")
    assert (a.accepted, a.delivered, a.failed_attempts, b.accepted, b.filtered) == (10, 10, 3, 2, 8)
    assert a.success_rate == pytest.approx(10 / 13)
    assert b.success_rate == 1.0
    assert sum(a.histogram) == 10
    publishers = {p.name: p for p in stats.processes if p.role == "publisher"}
    workers = {p.name: p for p in stats.processes if p.role == "worker"}
    assert (publishers["0"].accepted, publishers["0"].filtered) == (12, 8)
    assert workers.keys() == {"0", "1"}
    assert sum(worker.succeeded for worker in workers.values()) == 12
    assert sum(worker.failed for worker in workers.values()) == 3


def test_queued_and_stored(rig: Rig) -> None:
    """Deliveries in the hands of a worker are in a ring; failed ones are in the store. Both are
    pending."""
    rig.receiver.behave(Behaviour(delay_s=0.5), "/slow")
    rig.receiver.behave(Behaviour(status=503), "/bad")
    with rig.engine(rig.endpoint("slow"), rig.endpoint("bad", retry=OPS.retry)) as engine:
        begun_ns = time.time_ns()
        assert engine.emit("order.paid", {}) == 2
        assert engine.stats().endpoint("slow").queued == 1
        # It is in the store before it leaves the ring.
        until(lambda: (s := engine.stats().endpoint("bad")).stored == 1 and s.queued == 0)
        stats = engine.stats().endpoint("bad")
        assert (stats.queued, stats.pending, stats.balance) == (0, 1, 0)
        assert begun_ns <= (stats.oldest_pending_ns or 0) <= time.time_ns()
        assert (stats.next_retry_ns or 0) > begun_ns + 13 * S
        assert stats.last_error is not None
        assert stats.last_error.cause == "server_error"
        assert stats.failing_since_ns is not None
        rig.receiver.wait_for(1, "/slow")
        until(lambda: (s := engine.stats().endpoint("slow")).delivered == 1 and s.pending == 0)


def test_record_all(rig: Rig) -> None:
    """Every delivery leaves a row with its attempt, a success at once too; by default only failures
    do. The accounts are the same."""
    ordered = rig.endpoint("ordered", record="all", ordered=True)
    with rig.engine(rig.endpoint("all", record="all"), rig.endpoint("some"), ordered) as engine:
        for n in range(50):
            assert engine.emit("order.paid", {"n": n}) == 3
        settled(engine)
        stats = engine.stats()
    with ReadStore.open(d.DataDir(rig.data_dir).store) as store:
        for name, rows in (("all", 50), ("ordered", 50), ("some", 0)):
            figures = stats.endpoint(name)
            assert (figures.accepted, figures.delivered, figures.success_rate) == (50, 50, 1.0)
            assert sum(figures.histogram) == 50
            found = deliveries(store, endpoint=figures.id)
            assert [row.state for row in found] == [State.DELIVERED] * rows
            for row in found:
                assert [past.attempt.status for past in store.attempts(row.id)] == [204]
                assert store.body(row.id)
    assert rig.receiver.total("/all") == 50


def test_record_all_can_be_switched_on(rig: Rig) -> None:
    """At run time; what was delivered before left nothing."""
    with rig.engine() as engine:
        layer = {
            "name": "a",
            "url": f"{rig.receiver.url}/a",
            "events": ["*"],
            "signature": "none",
            "timeout": str(seconds(5)),
        }
        engine.control.create(layer)
        engine.emit("order.paid", {})
        settled(engine)
        engine.control.update("a", {"record": "all"})
        engine.emit("order.sent", {})
        settled(engine)
        with ReadStore.open(d.DataDir(rig.data_dir).store) as store:
            assert [row.type for row in deliveries(store)] == ["order.sent"]
        assert engine.stats().endpoint("a").delivered == 2


def test_a_publisher_that_attaches_meanwhile(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in these figures or in the next ones, and hinders neither."""
    with ExitStack() as stack:
        stack.enter_context(Publisher(harness.path)).emit("x", {})
        unsettled = ring.unsettled

        def attach(path: str, applied: dict[bytes, int]) -> dict[int, int]:
            monkeypatch.undo()
            stack.enter_context(Publisher(harness.path))
            return unsettled(path, applied)

        monkeypatch.setattr(ring, "unsettled", attach)
        for expected in (["0", "engine"], ["0", "1", "engine"]):
            stats = read_stats(harness.path)
            found = [p.name for p in stats.processes if p.role == "publisher"]
            assert (found, stats.endpoint("ops").accepted) == (expected, 1)


@pytest.mark.parametrize("changes", [0, 1, stats_module.ATTEMPTS - 1, 1000])
def test_a_change_that_is_published_meanwhile(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch, changes: int
) -> None:
    """Has the files read again, so that ids and configuration are of one version; but not for ever."""
    words, read = harness.words, stats_module.Reading.stats
    readings = 0

    def changed(reading: stats_module.Reading) -> Stats:
        nonlocal readings
        readings += 1
        found = read(reading)
        if readings <= changes:
            layer = {"url": "https://n.example/", "events": ["*"], "signature": "none"}
            harness.ask(c.Create({"name": f"n{readings}", **layer}), c.Subscription)
        return found

    monkeypatch.setattr(stats_module.Reading, "stats", changed)
    stats = read_stats(harness.path)
    assert readings == min(changes + 1, stats_module.ATTEMPTS)
    if readings > changes:
        assert stats.version == words.load(words.rows - 1, d.VERSION)
        assert len(stats.endpoints) == 1 + changes


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("moment", ["open", "close"])
def test_what_moves_into_the_store_meanwhile_is_pending(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch, moment: str, times: int
) -> None:
    """A report that is applied while the figures are read stands in its ring or in the store, or in
    both: never in neither."""
    harness.reporter.report(harness.fresh("e1"), "retry", "server_error", harness.attempt())
    original, seen = getattr(ReadStore, moment), 0

    def apply_then(*arguments: Path) -> ReadStore | None:
        nonlocal seen
        seen += 1
        if seen == times:
            harness.step()
        result: ReadStore | None = original(*arguments)
        return result

    monkeypatch.setattr(ReadStore, moment, apply_then)
    assert figures(harness).pending > 0
    monkeypatch.undo()
    assert figures(harness).pending == 1

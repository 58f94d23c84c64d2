"""An event at which a worker ends is found out, and set aside; the others are delivered."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fluxhook import Endpoint
from fluxhook._native import ring
from fluxhook.store import State
from fluxhook.supervisor.children import by_own_fault
from fluxhook.transport.messages import SUSPECT_NS, DueHead
from fluxhook.worker.dispatcher import Dispatcher
from fluxhook.worker.stage_timings import StageTimings
from support.rig import Rig, until
from support.scheduler_harness import S, SchedulerHarness

ENDPOINT = Endpoint(name="a", url="https://a.example/", secrets=("s",))


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SchedulerHarness]:
    with SchedulerHarness(tmp_path / "data", ENDPOINT) as harness:
        yield harness


def successor(
    harness: SchedulerHarness, fresh: list[ring.RingDelivery], due: list[ring.RingDelivery]
) -> None:
    """The worker that follows one that ended by a fault of its own."""
    reporter, clock = harness.reporter, harness.supervisor.clock
    counters = reporter.counters
    stages = StageTimings(counters, counters, clock)
    words = harness.words
    dispatcher = Dispatcher(words, counters, stages, reporter, 0, lambda address: None, clock)
    dispatcher.configure(0, ENDPOINT, 8)
    harness.scheduler.worker_lost(0, by_own_fault=True)
    dispatcher.suspect(fresh, due, harness.now_ns)
    dispatcher.senders.close()
    harness.step()


def taken(harness: SchedulerHarness) -> list[ring.RingDelivery]:
    """Return what a worker has in hand of what the scheduler sent, as it stands in its ring."""
    harness.step()
    return harness.inbox.take(100)


def head(delivery: ring.RingDelivery) -> DueHead:
    return msgspec.msgpack.decode(delivery.event, type=DueHead)


def states(harness: SchedulerHarness) -> dict[str, tuple[int, str]]:
    found = [*harness.store.pending_since(2**62, 100), *harness.store.expired(2**62, 100)]
    return {row.event_id: (row.state, row.cause) for row in found}


def test_only_its_own_fault_counts() -> None:
    """An error, or a signal that a program brings on itself; not one that anybody may send."""
    assert all(map(by_own_fault, (1, 70, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS)))
    assert not any(map(by_own_fault, (0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT)))


def test_suspects_are_tried_one_at_a_time(harness: SchedulerHarness) -> None:
    """All that was at hand goes to the store; each is sent when the one before has come back."""
    successor(harness, [harness.fresh(f"evt_{i}") for i in range(3)], [])
    assert set(states(harness).values()) == {(State.WAITING, "suspect")}
    for _ in range(3):
        (delivery,) = taken(harness)
        assert head(delivery).suspect
        delivery.id = head(delivery).delivery_id
        harness.reporter.report(
            delivery, "delivered", "delivered", harness.attempt("delivered", 200)
        )
        harness.step()
    assert taken(harness) == []
    assert {state for state, _ in states(harness).values()} == {State.DELIVERED}


def test_the_one_at_which_a_worker_ends_again_is_set_aside(harness: SchedulerHarness) -> None:
    """A dead letter whose cause says so, and that can be replayed; the others go on."""
    successor(harness, [harness.fresh(f"evt_{i}") for i in range(3)], [])
    successor(harness, [harness.fresh("evt_3")], taken(harness))
    assert states(harness)["evt_0"] == (State.DEAD, "poison")
    for i in (1, 2, 3):
        assert states(harness)[f"evt_{i}"] == (State.WAITING, "suspect")
    (delivery,) = taken(harness)
    assert head(delivery).event.startswith(b"evt_1")
    (row,) = harness.store.expired(2**62, 10)
    assert harness.scheduler.replay([row.id], harness.now_ns) == 1


def test_what_nobody_tried_alone_is_not_accused(harness: SchedulerHarness) -> None:
    """After SUSPECT_S several may be at hand again: then none of them is known to be the cause."""
    successor(harness, [harness.fresh(f"evt_{i}") for i in range(3)], [])
    harness.now_ns += SUSPECT_NS + S
    due = taken(harness)
    assert len(due) == 3
    successor(harness, [], due)
    assert set(states(harness).values()) == {(State.WAITING, "suspect")}


def test_what_was_taken_over_is_suspected_too(harness: SchedulerHarness) -> None:
    """It was under way with the worker, though the store had it already."""
    delivery = harness.fresh("evt_0")
    harness.reporter.report(delivery, "adopted", "over_share")
    harness.step()
    harness.scheduler.worker_lost(0, by_own_fault=True)
    (again,) = taken(harness)
    assert head(again).suspect


@pytest.mark.parametrize("end", ["os.abort()", "time.sleep(600)"], ids=["crash", "hang"])
def test_a_real_worker(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """Two workers end at it, or hang there until they are killed, and no more; every other event is
    delivered."""
    (tmp_path / "sitecustomize.py").write_text(
        f"""
import os, sys, time
if "worker" in sys.orig_argv:
    from fluxhook.worker.endpoint_queue import EndpointQueue
    real = EndpointQueue.request
    def request(self, delivery, now_s):
        if b"poison" in delivery.body:
            with open(os.environ["POISON_LOG"], "a") as log:
                log.write("x")
            {end}
        return real(self, delivery, now_s)
    EndpointQueue.request = request
elif "fluxhook.supervisor" in sys.orig_argv:
    from fluxhook.transport import heartbeat
    heartbeat.STUCK_LOOKS = 5
"""
    )
    log = tmp_path / "ended"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("POISON_LOG", str(log))
    with rig.engine(rig.endpoint("a"), workers=2) as engine:
        for i in range(300):
            assert engine.emit("order.paid", {"i": "poison" if i == 100 else i}) == 1
        rig.receiver.wait_for(299, "/a", deadline_s=30)
        until(lambda: engine.stats().endpoint("a").dead == 1, deadline_s=60)
        engine.emit("order.paid", {"i": "after"})
        rig.receiver.wait_for(300, "/a")
        assert engine.drain(10)
        stats = engine.stats().endpoint("a")
    assert log.read_text() == "xx"
    assert stats.balance == 0
    assert stats.delivered == 300

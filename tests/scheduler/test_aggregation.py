"""Aggregation: a storm of failures becomes one notification for each window, and the books balance."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fluxhook import Aggregate, Config, Duration, Endpoint, Size
from fluxhook import control as c
from fluxhook.receiver import Behaviour
from fluxhook.stats import EndpointStats, read_stats
from fluxhook.store import State, StoreError, SubscriptionRow
from support.rig import Rig, seconds, until
from support.scheduler_harness import S, SchedulerHarness
from support.store_rows import dead_letters, deliveries

TYPE = "webhook.failures.aggregated"
WINDOW = Duration.parse("10s")
OPS = Endpoint(
    name="ops",
    url="https://ops.example/",
    signature="none",
    aggregate=Aggregate(window=WINDOW, originals=2),
)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SchedulerHarness]:
    with SchedulerHarness(tmp_path / "data", OPS) as harness:
        yield harness


def replace(harness: SchedulerHarness, **changes: Any) -> None:
    """Another definition of the endpoint, by a reload."""
    harness.supervisor.live.load(
        Config(endpoints=(msgspec.structs.replace(OPS, **changes),), workers=1)
    )


def storm(harness: SchedulerHarness, n: int, type: str = "service.5xx", first: int = 0) -> None:
    for i in range(first, first + n):
        harness.gather(f"evt_{i}", type, b'{"id":"evt_%d"}' % i)
    harness.step()


def notifications(harness: SchedulerHarness) -> list[dict[str, Any]]:
    """The data of each, in their order, whatever became of them."""
    rows = sorted(deliveries(harness.store), key=lambda row: row.id)
    bodies = [harness.store.body(row.id) for row in rows if row.type == TYPE]
    return [json.loads(body or b"")["data"] for body in bodies]


def books(harness: SchedulerHarness) -> EndpointStats:
    return read_stats(harness.path).endpoint("ops")


def windows(harness: SchedulerHarness) -> int:
    return len(harness.store.windows())


# ---- one window ----------------------------------------------------------------------------


def test_a_window_becomes_one_notification(harness: SchedulerHarness) -> None:
    """The notification is made when its time is over, and not before: numbers by type, the first
    originals, both ends."""
    begun_ns = harness.now_ns
    storm(harness, 3)
    harness.now_ns += 4 * S
    storm(harness, 2, "circuit.broken", first=3)
    assert harness.wake_ns <= begun_ns + WINDOW.ns
    harness.now_ns = begun_ns + WINDOW.ns - 1
    assert harness.due() == []
    harness.now_ns += 1
    (delivery,) = harness.due()
    data = json.loads(delivery.body)["data"]
    assert data == {
        "endpoint": "ops",
        "count": 5,
        "counts": {"service.5xx": 3, "circuit.broken": 2},
        "first_at": data["first_at"],
        "last_at": data["last_at"],
        "originals": [{"id": "evt_0"}, {"id": "evt_1"}],
    }
    assert data["first_at"] < data["last_at"]
    assert windows(harness) == 0


def test_the_books_balance_at_every_moment(harness: SchedulerHarness) -> None:
    """The events are aggregated, the notification is accepted and pending from when its window
    opens; what the publishers count is added to it."""
    storm(harness, 1000)
    stats = books(harness)  # these events came from no publisher
    assert (stats.aggregated, stats.accepted, stats.stored) == (1000, 1, 1)
    assert stats.balance == -1000
    harness.now_ns += WINDOW.ns
    (delivery,) = harness.due()
    assert (books(harness).stored, books(harness).balance) == (1, -1000)
    harness.reporter.report(delivery, "delivered", "delivered")
    harness.step()
    stats = books(harness)
    assert (stats.delivered, stats.pending, stats.balance) == (1, 0, -1000)


def test_windows_follow_one_another(harness: SchedulerHarness) -> None:
    """Each event is in one of them; a quiet time makes none."""
    for i in range(5):
        storm(harness, 10, first=10 * i)
        harness.now_ns += WINDOW.ns
        harness.step()
    harness.now_ns += 10 * WINDOW.ns
    harness.step()
    assert [data["count"] for data in notifications(harness)] == [10] * 5


def test_originals_have_only_the_room_that_there_is(tmp_path: Path) -> None:
    """A notification is within max_event_bytes and the endpoint's max_payload: large originals are
    left out, never the numbers."""
    for options, engine in (
        ({"max_payload": Size(4096)}, {}),
        ({}, {"max_event_bytes": Size(4096), "ring_bytes": Size(2**20)}),
    ):
        path = tmp_path / f"data{len(options)}"
        with SchedulerHarness(path, msgspec.structs.replace(OPS, **options), **engine) as harness:
            for i, size in enumerate((1000, 3000, 10)):
                harness.gather(f"evt_{i}", body=b'{"x":"%s"}' % (b"y" * size))
            harness.step()
            harness.now_ns += WINDOW.ns
            (delivery,) = harness.due()
            assert len(delivery.body) <= 4096
            data = json.loads(delivery.body)["data"]
            assert (data["count"], len(data["originals"])) == (3, 1)


@pytest.mark.parametrize("types", [100, 2000])
def test_any_number_of_types(tmp_path: Path, types: int) -> None:
    """A host may make a type for everything; where even the numbers by type have no room, the sum
    is left."""
    aggregate = Aggregate(window=WINDOW, types=("*",))
    options = {"max_event_bytes": Size(16 << 10), "ring_bytes": Size(2**20)}
    with SchedulerHarness(
        tmp_path / "data", msgspec.structs.replace(OPS, aggregate=aggregate), **options
    ) as harness:
        for i in range(types):
            harness.gather(f"evt_{i}", f"host.type_{i}")
        harness.now_ns += WINDOW.ns
        harness.step()
        harness.now_ns += WINDOW.ns
        (delivery,) = harness.due()
        data = json.loads(delivery.body)["data"]
        assert data["count"] == types
        assert len(data["counts"]) == (types if types == 100 else 0)


# ---- what may happen while it is open ------------------------------------------------------


def test_a_restart_keeps_the_window(harness: SchedulerHarness) -> None:
    """The next supervisor goes on where the store stands; reports that it reads again count once."""
    storm(harness, 5)
    now_ns = harness.now_ns
    harness.reopen()
    harness.now_ns = now_ns + 5 * S
    storm(harness, 5, first=5)
    assert books(harness).aggregated == 10
    harness.now_ns = now_ns + WINDOW.ns
    harness.step()
    (data,) = notifications(harness)
    assert data["count"] == 10


def test_a_window_that_is_overdue_closes_at_the_start(harness: SchedulerHarness) -> None:
    """An engine that was down for an hour tells of what was before at once."""
    storm(harness, 5)
    now_ns = harness.now_ns
    harness.reopen()
    harness.now_ns = now_ns + 3600 * S
    assert len(harness.due()) == 1


def test_a_failing_disk_loses_and_doubles_nothing(
    harness: SchedulerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that could not be written are written when they can be, each in one window."""

    def full(*_: object) -> None:
        raise StoreError("the disk is full")

    storm(harness, 5)
    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr("fluxhook.store.transaction.DeliveryTransaction.write", full)
            storm(harness, 5, first=5)
            harness.now_ns += S
    assert books(harness).aggregated == 5
    with monkeypatch.context() as patched:
        patched.setattr("fluxhook.store.transaction.DeliveryTransaction.write", full)
        harness.now_ns += WINDOW.ns
        harness.step()
    assert windows(harness) == 1
    for _ in range(3):
        harness.now_ns += WINDOW.ns
        harness.step()
    assert sum(data["count"] for data in notifications(harness)) == books(harness).aggregated == 15


def test_of_a_deleted_endpoint_it_becomes_a_dead_letter(tmp_path: Path) -> None:
    """With all that it had counted, at once."""
    with SchedulerHarness(tmp_path / "data") as harness:
        layer = {"name": "ops", "url": OPS.url, "signature": "none", "events": ["*"]}
        harness.ask(c.Create({**layer, "aggregate": {"window": "10s"}}), c.Subscription)
        storm(harness, 5)
        harness.ask(c.Delete("ops"), c.Done)
        harness.step()
        harness.step()
        (dead,) = dead_letters(harness.store)
        assert (dead.type, dead.cause) == (TYPE, "removed")
        assert notifications(harness)[0]["count"] == 5
        stats = books(harness)
        assert (stats.pending, stats.dead, stats.accepted) == (0, 1, 1)
        storm(harness, 5, first=5)  # was still in a worker's hands
        harness.step()
        harness.step()
        assert [data["count"] for data in notifications(harness)] == [5, 5]
        assert (books(harness).pending, books(harness).dead) == (0, 2)


def test_of_a_disabled_endpoint_it_becomes_a_dead_letter(harness: SchedulerHarness) -> None:
    """As whatever waits for it."""
    storm(harness, 5)
    replace(harness, disable_on_gone=True)
    harness.fail(harness.fresh("evt_gone"), "dead", "gone", 410)
    harness.supervisor.housekeep(1e9)
    harness.step()
    assert {row.type: row.cause for row in dead_letters(harness.store)} == {
        TYPE: "disabled",
        "route.error": "gone",
    }


def test_of_a_paused_endpoint_the_notification_waits(harness: SchedulerHarness) -> None:
    """The window closes in time; its notification goes out when the pause ends."""
    storm(harness, 5)
    harness.ask(c.Pause("ops"), c.Done)
    harness.now_ns += WINDOW.ns
    assert harness.due() == []
    (row,) = deliveries(harness.store)
    assert (row.type, row.state) == (TYPE, State.WAITING)
    harness.ask(c.Resume("ops"), c.Done)
    assert len(harness.due()) == 1


def test_when_it_is_switched_off_the_open_window_is_the_last(harness: SchedulerHarness) -> None:
    """It closes in time; what was under way to it still counts."""
    storm(harness, 5)
    replace(harness, aggregate=Aggregate(window=Duration(0)))
    storm(harness, 5, first=5)
    harness.now_ns += WINDOW.ns
    harness.step()
    (data,) = notifications(harness)
    assert data["count"] == 10
    storm(harness, 1, first=10)
    harness.step()
    assert [data["count"] for data in notifications(harness)] == [10, 1]
    assert windows(harness) == 0


def test_an_ordered_endpoint_gets_it_in_its_turn(harness: SchedulerHarness) -> None:
    """Behind what waits there already."""
    replace(harness, ordered=True)
    harness.fail(harness.fresh("evt_head"))
    storm(harness, 5)
    harness.now_ns += WINDOW.ns
    harness.step()
    by_type = {row.type: row for row in deliveries(harness.store)}
    assert by_type[TYPE].state == State.BLOCKED
    (head,) = harness.sleep_until_due()
    harness.reporter.report(head, "delivered", "delivered")
    (delivery,) = harness.due()
    assert delivery.id == by_type[TYPE].id


def test_definitions_of_before_keep_what_they_say(harness: SchedulerHarness) -> None:
    """A definition that was stored before aggregation was on by default: one that says how is as it
    was; one that says nothing has the default now, and its other options unchanged."""
    base = {"url": OPS.url, "signature": "none", "events": ["service.*"], "timeout": "7s"}
    for name, written in (
        ("says_nothing", {}),
        ("says_when", {"aggregate": {"window": "25s"}}),
        ("says_off", {"aggregate": {"window": None}}),
        ("says_what", {"aggregate": {"types": ["service.*"]}}),
    ):
        row = SubscriptionRow(name, {**base, **written}, harness.now_ns, harness.now_ns, {})
        harness.store.save_subscription(row)
    harness.reopen()
    windows = {
        name: harness.endpoint(f"says_{name}").aggregate.window
        for name in ("nothing", "when", "off", "what")
    }
    ten = Duration.parse("10s")
    assert windows == {"nothing": ten, "when": Duration.parse("25s"), "off": None, "what": ten}
    assert harness.endpoint("says_nothing").timeout == Duration.parse("7s")
    assert not read_stats(harness.path).problems


@pytest.mark.parametrize("off", ["0s", None])
def test_one_line_turns_it_off_at_run_time(harness: SchedulerHarness, off: str | None) -> None:
    """`window: 0s` where it is created or changed; a patch with null takes the default back."""
    layer = {"name": "a", "url": OPS.url, "signature": "none", "events": ["service.5xx"]}
    harness.ask(c.Create({**layer, "aggregate": {"window": off}}), c.Subscription)
    assert not harness.endpoint("a").aggregate.window
    harness.ask(c.Update("a", {"aggregate": None}), c.Subscription)
    assert harness.endpoint("a").aggregate == Aggregate()
    harness.ask(c.Update("a", {"aggregate": {"window": "0s"}}), c.Subscription)
    assert not harness.endpoint("a").aggregate.window


# ---- end to end ----------------------------------------------------------------------------


def aggregating(rig: Rig, name: str, window_s: float, **options: Any) -> Endpoint:
    aggregate = Aggregate(window=seconds(window_s), originals=3)
    return rig.endpoint(name, aggregate=aggregate, **options)


def received(rig: Rig, path: str) -> list[dict[str, Any]]:
    """The data of the notifications that were accepted there."""
    envelopes = [json.loads(r.body) for r in rig.receiver.requests(path) if r.status == 204]
    return [e["data"] for e in envelopes if e["type"] == TYPE]


def test_a_thousand_failures_in_a_second_are_one_notification(rig: Rig) -> None:
    """Not a thousand; each endpoint has windows of its own, other types go out one by one, and the
    accounts are exact."""
    endpoints = [
        aggregating(rig, "ops", 1.0),
        aggregating(rig, "ordered", 1.0, ordered=True),
        rig.endpoint("all", aggregate=Aggregate(window=Duration(0))),
    ]
    with rig.engine(*endpoints, workers=2) as engine:
        for i in range(1000):
            engine.emit("service.5xx" if i % 4 else "tls.handshake.fail", {"n": i})
            if i % 100 == 0:
                engine.emit("route.created", {"n": i})
        assert engine.drain(10)
        stats = engine.stats()
    for name in ("ops", "ordered"):
        (data,) = received(rig, f"/{name}")
        assert data["count"] == 1000
        assert data["counts"] == {"service.5xx": 750, "tls.handshake.fail": 250}
        assert [e["type"] for e in data["originals"]].count("service.5xx") >= 1
        assert rig.receiver.total(f"/{name}") == 11
        books = stats.endpoint(name)
        assert (books.accepted, books.aggregated, books.delivered) == (1011, 1000, 11)
        assert (books.balance, books.pending) == (0, 0)
    assert rig.receiver.total("/all") == 1010
    assert stats.endpoint("all").aggregated == 0


def test_what_is_gathered_by_default(rig: Rig) -> None:
    """Embedded, and without a word about it: the gateway's three failure types go into a window, all
    else goes out at once; with `window: 0s` these do too."""
    off = Aggregate(window=Duration(0))
    endpoints = [rig.endpoint("ops"), rig.endpoint("each", aggregate=off)]
    with rig.engine(*endpoints) as engine:
        for event_type in (
            "service.5xx",
            "tls.handshake.fail",
            "circuit.broken",
            "upstream.timeout",
        ):
            assert engine.emit(event_type, {}) == 2
        rig.receiver.wait_for(1, "/ops")
        rig.receiver.wait_for(4, "/each")
        until(lambda: engine.stats().endpoint("ops").aggregated == 3)
        assert engine.stats().endpoint("ops").pending == 1  # the notification to be
        assert engine.stats().endpoint("each").aggregated == 0
    (request,) = rig.receiver.requests("/ops")
    assert json.loads(request.body)["type"] == "upstream.timeout"


def test_at_most_one_notification_for_each_window(rig: Rig) -> None:
    """Over a storm of many windows no event is counted twice or lost, and notifications come a
    window apart, a failing attempt and all."""
    window_s = 0.3
    rig.receiver.behave(Behaviour(fail_first=1, fail_status=503), "/ops")
    options = {"drop_policy": "block", "block_timeout": seconds(60), "workers": 2}
    with rig.engine(aggregating(rig, "ops", window_s), **options) as engine:
        begun = time.monotonic()
        counts: Counter[str] = Counter()
        lock = threading.Lock()

        def emit() -> None:
            while time.monotonic() < begun + 1.5:
                for event_type in ("service.5xx", "circuit.broken"):
                    assert engine.emit(event_type, {}) == 1
                    with lock:
                        counts[event_type] += 1

        threads = [threading.Thread(target=emit) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert engine.drain(20)
        elapsed = time.monotonic() - begun
        stats = engine.stats().endpoint("ops")
    told: Counter[str] = Counter()
    for data in received(rig, "/ops"):
        told.update(data["counts"])
        assert data["count"] == sum(data["counts"].values())
    assert told == counts
    assert stats.aggregated == counts.total()
    assert stats.balance == 0
    sent = len(received(rig, "/ops"))
    assert 2 <= sent <= elapsed / window_s + 1
    assert stats.delivered == sent


def test_the_notification_of_a_pause_at_run_time(rig: Rig) -> None:
    """Paused while a window is open: it arrives after the resume."""
    with rig.engine(aggregating(rig, "ops", 0.1)) as engine:
        engine.emit("service.5xx", {})
        until(lambda: engine.stats().endpoint("ops").aggregated == 1)
        engine.control.pause("ops")
        until(lambda: bool(engine.stats().endpoint("ops").oldest_pending_ns))
        assert rig.receiver.total("/ops") == 0
        engine.control.resume("ops")
        assert engine.drain(10)
    assert [data["count"] for data in received(rig, "/ops")] == [1]

"""The publisher's promises: what emit accepts, refuses, and never does."""

from __future__ import annotations

import enum
import json
import os
import re
import threading
import time
from typing import Any, get_args

import pytest

from fluxhook import (
    Endpoint,
    EngineError,
    EngineNotRunning,
    EventError,
    PayloadTooLarge,
    QueueFull,
    Size,
    TooManyPublishers,
    connect,
)
from fluxhook._native import ring
from fluxhook.events.envelope import EnvelopeStyle
from fluxhook.supervisor.supervisor import Supervisor
from fluxhook.transport.messages import EventHead
from native.rings import run_apart
from support.rig import Rig, seconds

ERROR = {
    "request_id": "req_7h3k9m2p",
    "path": "/api/v2/inventory",
    "status_code": 503,
    "upstream_service": "stock-manager",
    "latency_ms": 2450,
}
PUBLISHED = {"client_id": "c", "topic": "a/b", "qos": 0, "retained": False, "payload_size": 2}


class Colour(enum.StrEnum):
    """Texts with a hash of their own."""

    RED = "colour.red"


def test_there_must_have_been_an_engine(tmp_path: object) -> None:
    """The error says how to start one."""
    with pytest.raises(EngineNotRunning, match="fluxhook serve"):
        connect(str(tmp_path))


@pytest.mark.parametrize(
    ("type", "data", "topic", "message"),
    [
        ("Route Error", {}, None, "not an event type"),
        ("route.error", {"path": "/"}, None, "request_id"),
        ("order.paid", {1: 2}, None, "order.paid"),
        ("order.paid", {"x": float("nan")}, None, "order.paid"),
        ("order.paid", {"x": object()}, None, "order.paid"),
        ("message.any", {}, "a/#", "#"),
        ("message.any", {}, "", "topic"),
        ("message.any", {}, "a\0b", "topic"),
    ],
)
def test_bad_events_are_refused(
    rig: Rig, type: str, data: object, topic: str | None, message: str
) -> None:
    """EventError names what is wrong; nothing is accepted. The same after events of these types that
    were good, of which the publisher remembers how it wrote them."""
    prepare(rig)
    with connect(rig.data_dir) as publisher:
        with pytest.raises(EventError, match=message):
            publisher.emit(type, data, topic=topic)
        assert publisher.emit("route.error", ERROR) == 1
        assert publisher.emit("order.paid", {}) == publisher.emit("message.any", {}) == 1
        assert publisher.emit("message.any", {}, topic="a/b") == 1
        with pytest.raises(EventError, match=message):
            publisher.emit(type, data, topic=topic)
    assert len(records(rig)) == 4


@pytest.mark.parametrize("item", [5, None, ("order.paid",), ("order.paid", {}, None, 1), "ab", {}])
def test_what_is_no_event_in_a_batch(rig: Rig, item: Any) -> None:
    """EventError says which item it is; those before it are accepted."""
    prepare(rig)
    error = pytest.raises(EventError, match=r"item 1 .*\(type, data\)")
    with connect(rig.data_dir) as publisher, error:
        publisher.emit_many([("order.paid", {}), item])
    assert len(records(rig)) == 1


def test_an_event_over_the_limit_is_refused(rig: Rig) -> None:
    """PayloadTooLarge names the limit."""
    with rig.engine(rig.endpoint("a"), max_event_bytes=Size(1024)) as engine:
        for _ in range(2):
            with pytest.raises(PayloadTooLarge, match="max_event_bytes"):
                engine.emit("order.paid", {"text": "x" * 1024})
            assert engine.emit("order.paid", {"text": "x" * 512}) == 1


def prepare(rig: Rig, endpoint: Endpoint | None = None, **options: Any) -> None:
    """Make a data directory that has a configuration and no processes."""
    Supervisor(rig.data_dir, rig.config(endpoint or rig.endpoint("a"), **options)).close()


def test_what_is_accepted_while_no_engine_runs_is_delivered_later(rig: Rig) -> None:
    """The ring keeps it until the next start."""
    prepare(rig)
    with connect(rig.data_dir) as publisher:
        for i in range(100):
            assert publisher.emit("order.paid", {}, event_id=f"n{i}") == 1
    with rig.engine(rig.endpoint("a")) as engine:
        assert engine.drain(10)
    assert set(rig.receiver.ids("/a")) == {f"n{i}" for i in range(100)}


def test_newest_refuses_what_does_not_fit(rig: Rig) -> None:
    """The first queue_size events stay; the refused ones are counted, and raised if asked for."""
    prepare(rig, queue_size=50, drop_policy="newest")
    with connect(rig.data_dir) as publisher:
        accepted = [publisher.emit("order.paid", {}, event_id=f"n{i}") for i in range(80)]
        assert accepted == [1] * 50 + [0] * 30
        with pytest.raises(QueueFull):
            publisher.emit("order.paid", {}, raise_on_full=True)
    with rig.engine(rig.endpoint("a"), queue_size=50, drop_policy="newest") as engine:
        assert engine.drain(10)
        stats = engine.stats().endpoint("a")
    assert (stats.accepted, stats.refused, stats.balance) == (50, 31, 0)
    assert set(rig.receiver.ids("/a")) == {f"n{i}" for i in range(50)}


def test_accept_tells_the_events_id(rig: Rig) -> None:
    """The id that the receiver sees, made or given; an event that nobody wants has one too."""
    prepare(rig, queue_size=2, drop_policy="newest")
    with connect(rig.data_dir) as publisher:
        made = publisher.accept("order.paid", {})
        assert (made.endpoints, made.refused) == (1, 0)
        assert publisher.accept("order.paid", {}, event_id="mine") == ("mine", 1, 0)
        assert publisher.accept("order.paid", {}, event_id="late") == ("late", 0, 1)
        with pytest.raises(QueueFull) as caught:
            publisher.accept("order.paid", {}, raise_on_full=True)
        assert (caught.value.accepted, caught.value.refused) == (0, 1)
        with pytest.raises(EventError, match="not an event type"):
            publisher.accept("Order Paid")
    with rig.engine(rig.endpoint("a"), queue_size=2, drop_policy="newest") as engine:
        assert engine.drain(10)
    assert set(rig.receiver.ids("/a")) == {made.event_id, "mine"}
    with rig.engine(rig.endpoint("a", events=("tls.*",))) as engine:
        unwanted = engine.publisher.accept("order.paid", {})
    assert (unwanted.event_id[:4], unwanted.endpoints, unwanted.refused) == ("evt_", 0, 0)


def test_what_is_prepared_is_accepted_when_it_is_put(rig: Rig) -> None:
    """As it was made, for whom it matches by then; nothing before."""
    limit = {"max_event_bytes": Size(1024)}
    prepare(rig, rig.endpoint("a", events=("a.*",)), **limit)
    with connect(rig.data_dir) as publisher:
        first = publisher.prepare("a.x", {"n": 1}, event_id="one")
        second = publisher.prepare("b.x", {"n": 2}, event_id="two")
        for type in ("a.x", "b.x"):
            with pytest.raises(PayloadTooLarge, match="max_event_bytes"):
                publisher.prepare(type, {"text": "x" * 1024})
        with pytest.raises(EventError) as error:
            publisher.prepare("a.x", topic="a/#")
        assert error.value.field == "topic"
        assert not records(rig)
        assert publisher.put(second) == ("two", 0, 0)
        assert publisher.put(first) == ("one", 1, 0)
        prepare(rig, rig.endpoint("a", events=("b.*",), envelope="standard"), **limit)
        assert not publisher.is_current
        assert publisher.put(first) == ("one", 0, 0)
        assert publisher.put(second) == ("two", 1, 0)
        assert publisher.is_current
    bodies = [json.loads(body) for _, body in records(rig)]
    assert [body["data"] for body in bodies] == [{"n": 1}, {"n": 2}]
    assert ["id" in body for body in bodies] == [True, False]
    with pytest.raises(EngineError, match="closed"):
        publisher.put(first)
    with pytest.raises(EngineError, match="closed"):
        publisher.prepare("a.x")


def test_what_a_parent_prepared_a_child_may_put(rig: Rig) -> None:
    """It goes into the child's own rings."""
    prepare(rig, rig.endpoint("a"))
    with connect(rig.data_dir) as publisher:
        prepared = publisher.prepare("a.x", {"n": 1}, event_id="one")

        def put() -> None:
            assert publisher.put(prepared) == ("one", 1, 0)

        assert run_apart(put) == 0
        assert not records(rig)
        assert publisher.put(prepared) == ("one", 1, 0)
        assert len(records(rig)) == 1


def test_oldest_makes_room_for_the_newest(rig: Rig) -> None:
    """The last queue_size events stay; the dropped ones are counted."""
    prepare(rig, queue_size=50, drop_policy="oldest")
    with connect(rig.data_dir) as publisher:
        assert all(publisher.emit("order.paid", {}, event_id=f"n{i}") for i in range(500))
    with rig.engine(rig.endpoint("a"), queue_size=50, drop_policy="oldest") as engine:
        assert engine.drain(10)
        stats = engine.stats().endpoint("a")
    assert (stats.accepted, stats.dropped, stats.balance) == (500, {"oldest": 450}, 0)
    assert set(rig.receiver.ids("/a")) == {f"n{i}" for i in range(450, 500)}


@pytest.mark.parametrize(
    ("workers", "queue_size"), [(4, 1000), (1, 50), (3, 50), (16, 160), (4, 8), (4, 3)]
)
def test_oldest_keeps_the_newest_over_all_rings(rig: Rig, workers: int, queue_size: int) -> None:
    """The newest `queue_size` events wait, rounded up to a multiple of the rings, and no other, however
    many rings they are in."""
    options = {"workers": workers, "queue_size": queue_size, "drop_policy": "oldest"}
    Supervisor(rig.data_dir, rig.config(rig.endpoint("a"), **options)).close()
    kept = -(-queue_size // workers) * workers
    emitted = 3 * kept + 7
    with connect(rig.data_dir) as publisher:
        for n in range(emitted):
            assert publisher.emit("order.paid", {}, event_id=f"n{n}") == 1
        publisher.put(publisher.prepare("order.paid", {}, event_id=f"n{emitted}"))
    found = []
    for path in rig.data_dir.glob("rings/0/*.ring"):
        taken = ring.Consumer(str(path)).take(emitted)
        found += [EventHead.decode(delivery.event).event_id for delivery in taken]
    newest = [f"n{n}" for n in range(emitted - kept + 1, emitted)] + [f"n{emitted}"]
    assert sorted(found) == sorted(newest)


def test_oldest_keeps_a_rings_share_of_an_endpoint_with_one_worker(rig: Rig) -> None:
    """Events of an ordered endpoint are in one ring: the newest of its share of `queue_size`, rounded
    up, wait. Those of other endpoints have all rings."""
    ordered = rig.endpoint("a", ordered=True, events=("order.paid",))
    config = rig.config(
        ordered, rig.endpoint("b", events=("order.sent",)), workers=4, queue_size=1001
    )
    Supervisor(rig.data_dir, config).close()
    with connect(rig.data_dir) as publisher:
        for n in range(2000):
            publisher.emit("order.paid", {}, event_id=f"n{n}")
    consumer = ring.Consumer(str(rig.data_dir / "rings/0/0.ring"))
    found = [EventHead.decode(delivery.event).event_id for delivery in consumer.take(2000)]
    assert found == [f"n{n}" for n in range(2000 - 251, 2000)]


def test_block_waits_for_room_and_then_refuses(rig: Rig) -> None:
    """With an engine that makes room every event is accepted; without one, refused in time."""
    options: dict[str, Any] = {"queue_size": 20, "drop_policy": "block"}
    with rig.engine(rig.endpoint("a"), block_timeout=seconds(10), **options) as engine:
        assert all(engine.emit("order.paid", {}) for _ in range(500))
        assert engine.drain(10)
    prepare(rig, block_timeout=seconds(0.2), **options)
    with connect(rig.data_dir) as publisher:
        assert sum(publisher.emit("order.paid", {}) for _ in range(21)) == 20


def test_threads_share_a_publisher(rig: Rig) -> None:
    """No event of any thread is lost or torn."""
    with rig.engine(rig.endpoint("a"), workers=2) as engine:
        threads = [
            threading.Thread(
                target=lambda t=t: [
                    engine.emit("order.paid", {"t": t}, event_id=f"{t}-{i}") for i in range(500)
                ]
            )
            for t in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert engine.drain(20)
        assert engine.stats().endpoint("a").accepted == 4000
    assert set(rig.receiver.ids("/a")) == {f"{t}-{i}" for t in range(8) for i in range(500)}


def test_a_forked_child_attaches_anew(rig: Rig) -> None:
    """Parent and child emit at the same time, each into rings of its own."""
    with rig.engine(rig.endpoint("a")) as engine:
        engine.emit("order.paid", {}, event_id="before")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for i in range(200):
                    assert engine.emit("order.paid", {}, event_id=f"child-{i}") == 1
                status = 0
            finally:
                os._exit(status)
        for i in range(200):
            engine.emit("order.paid", {}, event_id=f"parent-{i}")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert engine.drain(10)
        assert engine.stats().endpoint("a").balance == 0
    ids = rig.receiver.ids("/a")
    assert len(ids) == 401
    assert set(ids.values()) == {1}


def test_the_number_of_publishers_is_bounded_and_slots_are_reused(rig: Rig) -> None:
    """The error names the setting; a closed publisher's slot is free again."""
    prepare(rig, max_publishers=2)
    with connect(rig.data_dir) as first, connect(rig.data_dir):
        with pytest.raises(TooManyPublishers, match="max_publishers"):
            connect(rig.data_dir)
        first.close()
        connect(rig.data_dir).close()
    assert sorted(p.name for p in (rig.data_dir / "rings").iterdir()) == ["0", "1", "engine"]


def test_a_closed_publisher_says_so(rig: Rig) -> None:
    """EngineError, not a crash."""
    prepare(rig)
    publisher = connect(rig.data_dir)
    publisher.close()
    with pytest.raises(EngineError, match="closed"):
        publisher.emit("order.paid", {})


@pytest.mark.parametrize("durability", ["power", "interval:10ms"])
def test_every_durability_delivers(rig: Rig, durability: str) -> None:
    """emit_many shares one sync; what it returns is what was accepted."""
    rig.receiver.behave(None, "/a")
    with rig.engine(rig.endpoint("a"), durability=durability) as engine:
        assert engine.emit("order.paid", {}) == 1
        assert engine.emit_many([("order.paid", {"i": i}) for i in range(100)]) == 100
        assert engine.drain(10)
    assert rig.receiver.distinct("/a") == 101


def test_payloads_are_sent_only_if_the_configuration_says_so(rig: Rig) -> None:
    """`include_payload`: base64 in the broker's envelope, otherwise no such field."""
    for include in (False, True):
        with rig.engine(rig.endpoint("a"), include_payload=include) as engine:
            engine.emit("message.published", {**PUBLISHED, "payload": b"hi"})
            assert engine.drain(10)
    without, with_payload = (json.loads(r.body)["data"] for r in rig.receiver.requests("/a"))
    assert "payload" not in without
    assert with_payload["payload"] == "aGk="


@pytest.mark.parametrize("style", get_args(EnvelopeStyle))
@pytest.mark.parametrize(
    ("type", "data", "topic"),
    [
        ("route.error", ERROR, None),
        ("message.published", PUBLISHED, None),
        ("message.published", PUBLISHED, "c/d"),
        ("order.paid", {"umlaut": "\u00e4", "nested": [1.5]}, None),
        ("order.paid", None, "t\u00f6pic"),
        (Colour.RED, {}, None),
    ],
)
def test_an_event_that_comes_again_is_the_same(
    rig: Rig, style: EnvelopeStyle, type: str, data: object, topic: str | None
) -> None:
    """The publisher remembers how an event was written; that never shows in what is sent. Ids that
    JSON would escape are no exception."""
    prepare(rig, endpoint=rig.endpoint("a", envelope=style, topic_filters=("#",)))
    with connect(rig.data_dir) as publisher:
        for event_id in ("n1", "n2", "n3", 'n"', "n\\"):
            assert publisher.emit(type, data, topic=topic, event_id=event_id) == 1
        made = publisher.accept(type, data, topic=topic)
        assert made.endpoints == 1
    first, *others = records(rig)
    assert first[0] == EventHead("n1", str.__str__(type), *first[0][2:])
    for head, body in others:
        assert head == first[0]._replace(event_id=head.event_id)
        written = json.dumps(head.event_id).encode()
        assert undated(body) == undated(first[1]).replace(b'"n1"', written)
    assert [head.event_id for head, _ in others] == ["n2", "n3", 'n"', "n\\", made.event_id]


def records(rig: Rig) -> list[tuple[EventHead, bytes]]:
    """Return what waits in the first publisher's ring for the first worker."""
    consumer = ring.Consumer(str(rig.data_dir / "rings/0/0.ring"))
    taken = [(EventHead.decode(d.event), d.body) for d in consumer.take(1000)]
    consumer.rewind()
    consumer.close()
    return taken


def undated(body: bytes) -> bytes:
    return re.sub(rb"20\d\d-[0-9T:-]+Z", b"now", body)


def test_topic_filters_bind_events_about_a_topic_filter(rig: Rig) -> None:
    """As FluxMQ's do: `subscription.*` and the denied subscription by their `topic_filter`, taken as a
    text; an event without a topic goes to all. The filter is no topic name of the event."""
    filters = {"all": (), "sensors": ("sensors/#",), "one": ("+/1",), "any": ("#",)}
    with rig.engine(*(rig.endpoint(name, topic_filters=f) for name, f in filters.items())):
        pass
    with connect(rig.data_dir) as publisher:
        for _ in range(2):  # the second time by whatever way is remembered
            for topic_filter, endpoints in (
                ("sensors/#", 3),
                ("sensors/1", 4),
                ("+/1", 3),
                ("$share/g/sensors/#", 2),
                ("sensors", 3),
                ("", 4),
            ):
                data = {"client_id": "c", "topic_filter": topic_filter}
                for type, more in (
                    ("subscription.removed", {}),
                    ("subscription.created", {"qos": 1}),
                    ("authz.subscribe_denied", {"reason": "x"}),
                ):
                    assert publisher.emit(type, {**data, **more}) == endpoints, (type, topic_filter)
            assert publisher.emit("auth.success", {"client_id": "c", "remote_addr": "x"}) == 4
            data = {"client_id": "c", "topic_filter": "sensors/#"}
            assert publisher.emit("subscription.removed", data, topic="other/1") == 3
    consumer = ring.Consumer(str(rig.data_dir / "rings/0/0.ring"))
    topics = {EventHead.decode(delivery.event).topic for delivery in consumer.take(1000)}
    assert topics == {"", "other/1"}


def test_a_new_configuration_holds_for_the_next_event(rig: Rig) -> None:
    """However often its type was emitted under the one before."""
    prepare(rig)
    with connect(rig.data_dir) as publisher:
        assert [publisher.emit("order.paid", {}) for _ in range(3)] == [1] * 3
        with rig.engine(rig.endpoint("a"), rig.endpoint("b")):
            assert [publisher.emit("order.paid", {}) for _ in range(3)] == [2] * 3
        with rig.engine(rig.endpoint("b", events=("tls.*",))):
            assert [publisher.emit("order.paid", {}) for _ in range(3)] == [0] * 3


def test_a_host_may_stop_its_clock(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its test suite may: `emit` goes on."""
    prepare(rig)
    with connect(rig.data_dir) as publisher:
        publisher.emit("order.paid", {})
        monkeypatch.setattr(time, "time", lambda: 1_700_000_000.5)
        assert [publisher.emit("order.paid", {}) for _ in range(3)] == [1] * 3
    assert len(records(rig)) == 4

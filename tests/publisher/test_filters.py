"""where, sample and threshold, from the configuration to what a receiver gets."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import http
import os
import uuid
from pathlib import Path

import pytest

from fluxhook import Engine, Threshold, connect
from fluxhook._native import ring
from fluxhook.policy.sample import in_sample
from fluxhook.supervisor.supervisor import Supervisor
from fluxhook.transport import thresholds
from fluxhook.transport.messages import EventHead
from support.rig import Rig

ERROR = {
    "request_id": "req_7h3k9m2p",
    "path": "/api/v2/inventory",
    "status_code": 503,
    "upstream_service": "stock-manager",
    "latency_ms": 2450,
}
#: no test takes an hour; one that meets the full hour of the machine's clock may see one event less
HOURLY = Threshold.parse("100/h")


def settled(engine: Engine) -> None:
    assert engine.drain(30), engine.stats()
    assert all(endpoint.balance == 0 for endpoint in engine.stats().endpoints)


def test_where_forwards_what_meets_all_conditions(rig: Rig) -> None:
    """The rest is not accepted, and is counted as filtered; an endpoint beside it gets everything."""
    conditions = ("status_code >= 500", "path startswith '/api/'")
    endpoints = rig.endpoint("picky", where=conditions), rig.endpoint("all")
    with rig.engine(*endpoints) as engine:
        assert engine.emit("route.error", ERROR) == 2
        assert engine.emit("route.error", ERROR | {"status_code": 404}) == 1
        assert engine.emit("route.error", ERROR | {"path": "/"}) == 1
        assert engine.emit("order.paid", {"status_code": 500, "path": "/api/"}) == 2
        assert engine.emit("order.paid", {}) == 1
        settled(engine)
        picky, everything = engine.stats().endpoint("picky"), engine.stats().endpoint("all")
    assert (picky.accepted, picky.filtered, picky.delivered) == (2, 3, 2)
    assert (everything.accepted, everything.filtered, everything.delivered) == (5, 0, 5)
    assert (rig.receiver.total("/picky"), rig.receiver.total("/all")) == (2, 5)


def test_sample_decides_by_the_id(rig: Rig) -> None:
    """An id that comes again is decided as before, in any process."""
    ids = [f"order-{i}" for i in range(300)]
    chosen = {event_id for event_id in ids if in_sample(event_id, 0.2)}
    with rig.engine(rig.endpoint("a", sample=0.2)) as engine, connect(rig.data_dir) as second:
        for publisher in (engine, second):
            accepted = {i for i in ids if publisher.emit("order.paid", {}, event_id=i)}
            assert accepted == chosen
        settled(engine)
        assert engine.stats().endpoint("a").filtered == 2 * (300 - len(chosen))
    assert set(rig.receiver.ids("/a")) == chosen


def test_two_processes_share_one_threshold(rig: Rig) -> None:
    """80 events from each of two: what is above 100 in both together is forwarded. A third type, of
    which there are few, is not; and another endpoint has a counter of its own."""
    noisy = rig.endpoint("noisy", threshold=HOURLY, events=("a.*",))
    quiet = rig.endpoint("quiet", threshold=HOURLY, events=("a.x",))
    with rig.engine(noisy, quiet) as engine:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with connect(rig.data_dir) as publisher:
                    for _ in range(80):
                        publisher.emit("a.b", {})
                status = 0
            finally:
                os._exit(status)
        mine = sum(engine.emit("a.b", {}) for _ in range(80))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert sum(engine.emit("a.x", {}) for _ in range(50)) == 0
        settled(engine)
        stats = engine.stats().endpoint("noisy")
        assert engine.stats().endpoint("quiet").filtered == 50
    assert stats.accepted in (60, 59)
    assert stats.accepted + stats.filtered == 210
    assert mine <= stats.accepted
    assert rig.receiver.total("/noisy") == stats.accepted


def test_a_threshold_sees_what_where_and_sample_leave(rig: Rig) -> None:
    """where -> sample -> threshold: what is held back before is not counted against the cap."""
    endpoint = rig.endpoint("a", where=("n >= 100",), sample=0.5, threshold=HOURLY)
    ids = [f"n-{i}" for i in range(600)]
    sampled = sum(in_sample(event_id, 0.5) for event_id in ids[100:])
    with rig.engine(endpoint) as engine:
        forwarded = sum(
            engine.emit("a", {"n": i}, event_id=event_id) for i, event_id in enumerate(ids)
        )
        settled(engine)
    assert forwarded in (sampled - 100, sampled - 101)


def test_a_forked_child_counts_in_its_own_place(rig: Rig) -> None:
    """A child whose first event is filtered attaches anew before it counts that."""
    with rig.engine(rig.endpoint("a", where=("x == 1",))) as engine:
        engine.emit("a", {})
        child = os.fork()
        if child == 0:
            status = 1
            try:
                assert engine.emit("a", {}) == 0
                assert engine.emit("a", {"x": 1}) == 1
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        settled(engine)
        stats = engine.stats().endpoint("a")
    assert (stats.filtered, stats.accepted) == (2, 1)
    assert (rig.data_dir / "rings/1/counters").exists()


def test_what_cannot_be_counted_is_forwarded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full table silences nothing: such events are forwarded, and counted as unmetered."""
    with rig.engine(rig.endpoint("a", threshold=HOURLY)) as engine:
        monkeypatch.setattr(thresholds, "PROBES", 0)
        assert [engine.emit("a", {}) for _ in range(3)] == [1, 1, 1]
        settled(engine)
        stats = engine.stats().endpoint("a")
    assert (stats.accepted, stats.filtered, stats.unmetered) == (3, 0, 3)


def test_filters_from_a_file(rig: Rig, tmp_path: Path) -> None:
    """As an operator writes them; after a restart every window begins anew."""
    file = tmp_path / "webhook.yaml"
    file.write_text(f"""
        webhook:
          workers: 1
          ring_bytes: 16MiB
          allow_networks: [127.0.0.0/8]
          endpoints:
            - name: surges
              url: {rig.receiver.url}/surges
              events: [route.error]
              where: ["status_code >= 500", "upstream_service in ['stock-manager', 'orders']"]
              threshold: {{rate: 60/m, window: 1h}}
    """)
    for _ in range(2):
        with Engine.from_yaml(file, tmp_path / "engine") as engine:
            forwarded = sum(engine.emit("route.error", ERROR) for _ in range(3700))
            assert engine.emit("route.error", ERROR | {"status_code": 404}) == 0
            assert forwarded in (100, 99)
            settled(engine)


class Level(enum.StrEnum):
    ERROR = "error"


@dataclasses.dataclass
class Request:
    status_code: object


@pytest.mark.parametrize(
    ("condition", "data"),
    [
        ("status_code >= 500", {"status_code": http.HTTPStatus(503)}),
        ("status_code >= 500", Request(http.HTTPStatus(503))),
        ("level == 'error'", {"level": Level.ERROR}),
        ("tenant startswith '0000'", {"tenant": uuid.UUID(int=1)}),
        ("at startswith '2026-'", {"at": datetime.date(2026, 2, 5)}),
        ("amount == '1.10'", {"amount": decimal.Decimal("1.10")}),
    ],
)
def test_filters_judge_the_json_that_is_sent(rig: Rig, condition: str, data: object) -> None:
    """Not the objects that it is made of; an endpoint beside it gets the same. By every way to emit."""
    supervisor = Supervisor(rig.data_dir, rig.config(rig.endpoint("a", where=(condition,))))
    try:
        with connect(rig.data_dir) as publisher:
            assert publisher.emit("order.paid", data) == 1
            assert publisher.accept("order.paid", data).endpoints == 1
            assert publisher.emit_many([("order.paid", data), ("order.paid", {})]) == 1
    finally:
        supervisor.close()


def test_order_keys_are_the_json_that_is_sent(rig: Rig) -> None:
    """An id, an enum or an object is a key of its own, not one that all share."""
    endpoint = rig.endpoint("a", ordered=True, order_key="tenant")
    supervisor = Supervisor(rig.data_dir, rig.config(endpoint))
    keys = (uuid.UUID(int=1), uuid.UUID(int=2), Level.ERROR, {"a": 1}, {"a": 2}, [1])
    try:
        with connect(rig.data_dir) as publisher:
            for key in keys:
                assert publisher.emit("order.paid", {"tenant": key}) == 1
    finally:
        supervisor.close()
    consumer = ring.Consumer(str(rig.data_dir / "rings/0/0.ring"))
    written = [EventHead.decode(delivery.event).order_key for delivery in consumer.take(64)]
    consumer.close()
    assert written == [str(keys[0]), str(keys[1]), "error", '{"a":1}', '{"a":2}', "[1]"]

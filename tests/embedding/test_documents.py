"""What FluxGate's and FluxMQ's documents say of a running system, where no other test is about it."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from pathlib import Path

import pytest

from events.samples import DATA
from fluxhook import Aggregate, Duration, Retry, connect
from fluxhook.events.catalog import BROKER, GATEWAY
from fluxhook.receiver import Behaviour
from fluxhook.store import ReadStore
from fluxhook.transport.datadir import DataDir
from support.rig import Rig, seconds, until
from support.store_rows import deliveries

SEND_EACH = Aggregate(window=Duration(0))
#: of a host on a busy machine: how often it was made to wait by something that is not `emit`'s
STRAY_WAITS = 50


def test_every_type_is_delivered(rig: Rig) -> None:
    """Traffic events, error signals, configuration changes, and all that a broker emits: each is one
    POST (the receiver takes nothing else) with its type, in its catalog's envelope."""
    types = [name for name in (*GATEWAY, *BROKER) if not name.startswith("webhook.")]
    with rig.engine(rig.endpoint("all", aggregate=SEND_EACH)) as engine:
        for name in types:
            assert engine.emit(name, DATA[name]) == 1
        assert engine.drain(10)
    received = [json.loads(request.body) for request in rig.receiver.requests("/all")]
    assert sorted(e["type"] for e in received if "gateway_node" in e) == sorted(
        name for name in GATEWAY if name in types
    )
    assert sorted(e["event_type"] for e in received if "broker_id" in e) == sorted(BROKER)


def test_who_does_not_answer_in_time_is_tried_again(rig: Rig) -> None:
    """Each endpoint by its own `timeout`; the cause is on record, and the event arrives."""
    rig.receiver.behave(Behaviour(fault="hang"), "/hang")
    retry = Retry(initial_interval=seconds(0.2), max_attempts=50)
    with rig.engine(rig.endpoint("hang", timeout=seconds(0.3), retry=retry)) as engine:
        assert engine.emit("route.error", DATA["route.error"]) == 1
        until(lambda: engine.stats().endpoint("hang").failed_attempts >= 1)
        rig.receiver.behave(None, "/hang")
        assert engine.drain(10)
        assert engine.stats().endpoint("hang").delivered == 1
    with ReadStore.open(DataDir(rig.data_dir).store) as reader:
        (delivery,) = deliveries(reader)
        first = reader.attempts(delivery.id)[0].attempt
    assert (first.cause, first.status) == ("timeout", 0)
    assert 290_000 <= first.total_us < 3_000_000


@pytest.mark.parametrize("drop_policy", ["oldest", "newest"])
def test_a_host_never_waits(rig: Rig, drop_policy: str) -> None:
    """Whatever the receivers and the engine's processes do, and with a queue that is full: `emit` does
    not sleep, and takes less than 10 ms."""
    rig.receiver.behave(Behaviour(fault="hang"), "/hang")
    endpoint = rig.endpoint("hang", timeout=seconds(30))
    options = {"queue_size": 200, "drop_policy": drop_policy, "shutdown_timeout": seconds(0.1)}
    with rig.engine(endpoint, **options) as engine:
        for _ in range(100):
            engine.emit("route.error", DATA["route.error"])
        supervisor = json.loads((rig.data_dir / "engine.json").read_text())["pid"]
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        stopped = [supervisor, *map(int, children)]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            took_ns = []
            waits = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
            for _ in range(5000):
                begun_ns = time.perf_counter_ns()
                engine.emit("route.error", DATA["route.error"])
                took_ns.append(time.perf_counter_ns() - begun_ns)
            waits = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - waits
        finally:
            for pid in reversed(stopped):
                os.kill(pid, signal.SIGCONT)
        stats = engine.stats().endpoint("hang")
        assert stats.refused + sum(stats.dropped.values()) > 4000  # the queue was full
    assert waits < STRAY_WAITS
    assert sorted(took_ns)[len(took_ns) * 99 // 100] < 10_000_000


def test_declared_types_may_have_capitals_everywhere(rig: Rig) -> None:
    """They are types like any other, and never those in small letters, for an endpoint that is
    created, changed and tested, for any process that emits, and for events that are gathered."""
    url = f"{rig.receiver.url}/made"
    with rig.engine(event_types=("User.Created", "Order")) as engine:
        layer = {"name": "made", "url": url, "signature": "none", "events": ["User.Created"]}
        assert engine.control.create(layer).notices == []
        patch = {
            "events": ["User.*", "Order"],
            "aggregate": {"types": ["Order"], "window": "100ms"},
        }
        assert engine.control.update("made", patch).notices == []
        with connect(rig.data_dir) as other:
            assert other.emit("User.Created", {"n": 1}) == 1
        assert engine.emit("user.created", {"n": 2}) == 0
        assert engine.emit("Order", {"n": 3}) == 1
        engine.control.send_test("made", "User.Created", {"n": 4})
        rig.receiver.wait_for(3, "/made")
        assert engine.drain(10)
    data = {e["type"]: e["data"] for e in map(json.loads, bodies(rig, "/made"))}
    assert data.keys() == {"User.Created", "webhook.failures.aggregated"}
    assert data["webhook.failures.aggregated"]["counts"] == {"Order": 1}
    assert sorted(json.loads(b)["data"].get("n", 3) for b in bodies(rig, "/made")) == [1, 3, 4]


def bodies(rig: Rig, path: str) -> list[bytes]:
    return [request.body for request in rig.receiver.requests(path)]

"""What `emit` costs the host program.

    python -m pytest bench/micro/test_emit.py --benchmark-only

A round emits 1,000 events into a real data directory, so microseconds of a round read as nanoseconds
of one event. No engine runs, and the ring is emptied between the rounds: nothing but the publisher's
work is in the figures, with the caches warm. `python -m bench` has those of a host that shares the
machine with a busy engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fluxhook import Config, Endpoint, Publisher
from fluxhook._native.ring import Consumer
from fluxhook.supervisor.supervisor import Supervisor

EVENTS = 1_000
ROUNDS = 100

ERROR = {
    "request_id": "req_7f3a9c",
    "path": "/api/v1/orders",
    "status_code": 502,
    "upstream_service": "orders",
    "latency_ms": 1840,
}
OWN = {"order": "o_000123", "amount": 12_345, "currency": "eur", "status": "paid"}
PUBLISHED = {
    "client_id": "sensor-17",
    "topic": "plant/3/line/temperature",
    "qos": 1,
    "retained": False,
    "payload_size": 4,
}

pytestmark = pytest.mark.benchmark(group="emit (1,000 events)")


def endpoint(name: str, **options: Any) -> Endpoint:
    url = f"https://hooks.example.com/{name}"
    return Endpoint(name=name, url=url, secrets=("k" * 32,), **options)


class PreparedEngine:
    """A data directory that was made ready by a supervisor that is gone again."""

    def __init__(self, path: Path, *endpoints: Endpoint) -> None:
        config = Config(
            endpoints=endpoints, workers=1, drop_policy="newest", event_types=("order.paid",)
        )
        Supervisor(path, config).close()
        self.publisher = Publisher(path)
        self._ring = Consumer(str(path / "rings/0/0.ring"))

    def empty(self) -> None:
        while taken := self._ring.take(EVENTS):
            for delivery in taken:
                delivery.settle()

    def close(self) -> None:
        self.publisher.close()
        self._ring.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[..., PreparedEngine]]:
    rigs: list[PreparedEngine] = []

    def make(*endpoints: Endpoint) -> PreparedEngine:
        rigs.append(PreparedEngine(tmp_path / "data", *endpoints))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


def measure(
    benchmark: Any, rig: PreparedEngine, type: str, data: object, *, accepted: int, **options: Any
) -> None:
    """Emit rounds of the same event; without an `event_id` each has an id of its own."""
    emit = rig.publisher.emit

    def emit_all() -> None:
        for _ in range(EVENTS):
            emit(type, data, **options)

    assert emit(type, data, **options) == accepted
    benchmark.pedantic(emit_all, setup=rig.empty, rounds=ROUNDS, warmup_rounds=5)


def test_catalog_event(benchmark: Any, rig: Callable[..., PreparedEngine]) -> None:
    """One endpoint matches; the data is a dict that the catalog checks."""
    measure(benchmark, rig(endpoint("a")), "route.error", ERROR, accepted=1)


def test_own_event(benchmark: Any, rig: Callable[..., PreparedEngine]) -> None:
    """One endpoint matches; a type of the host's own with a flat dict."""
    measure(benchmark, rig(endpoint("a")), "order.paid", OWN, accepted=1)


def test_id_of_the_host(benchmark: Any, rig: Callable[..., PreparedEngine]) -> None:
    """The same with an id that the host brings."""
    measure(benchmark, rig(endpoint("a")), "order.paid", OWN, accepted=1, event_id="order-000123")


def test_one_part_with_order_key(benchmark: Any, rig: Callable[..., PreparedEngine]) -> None:
    """The long way of `emit`: an event that cannot be told from its type and topic alone."""
    only = endpoint("a", order_key="order")
    measure(benchmark, rig(only), "order.paid", OWN, accepted=1)


def test_event_with_topic(benchmark: Any, rig: Callable[..., PreparedEngine]) -> None:
    """One endpoint matches, by a topic filter with wildcards."""
    only = endpoint("a", events=("message.*",), topic_filters=("plant/+/line/#",))
    measure(benchmark, rig(only), "message.published", PUBLISHED, accepted=1)


def test_nobody_subscribed(benchmark: Any, rig: Callable[..., PreparedEngine]) -> None:
    """An event has its cost even if nobody wants to have it."""
    only = endpoint("a", events=("tls.*",))
    measure(benchmark, rig(only), "route.error", ERROR, accepted=0)


def test_three_endpoints_two_styles(benchmark: Any, rig: Callable[..., PreparedEngine]) -> None:
    """Two encodings, two records: the endpoints with one style share one."""
    endpoints = endpoint("a"), endpoint("b"), endpoint("c", envelope="cloudevents")
    measure(benchmark, rig(*endpoints), "route.error", ERROR, accepted=3)


def test_hundred_endpoints(benchmark: Any, rig: Callable[..., PreparedEngine]) -> None:
    """One encoding, four records of up to 32 endpoints each."""
    endpoints = (endpoint(f"e{n}") for n in range(100))
    measure(benchmark, rig(*endpoints), "route.error", ERROR, accepted=100)


def test_emit_many(benchmark: Any, rig: Callable[..., PreparedEngine]) -> None:
    """The same as test_catalog_event, in one call."""
    ready = rig(endpoint("a"))
    events = [("route.error", ERROR)] * EVENTS

    def setup() -> tuple[tuple[Any, ...], dict[str, Any]]:
        ready.empty()
        return (events,), {}

    assert ready.publisher.emit_many(events) == EVENTS
    benchmark.pedantic(
        ready.publisher.emit_many,
        setup=setup,
        rounds=ROUNDS,
        warmup_rounds=5,
    )

"""What it costs to make an event, and to encode its envelope in each style.

python -m pytest bench/micro/test_encode.py --benchmark-only
"""

from __future__ import annotations

from typing import Any

import pytest

from fluxhook.events.envelope import Envelopes
from fluxhook.events.factory import EventFactory

EVENTS: dict[str, dict[str, Any]] = {
    "route.error": {
        "request_id": "req_7f3a9c",
        "path": "/api/v1/orders",
        "status_code": 502,
        "upstream_service": "orders",
        "latency_ms": 1840,
    },
    "message.published": {
        "client_id": "sensor-17",
        "topic": "plant/3/line/temperature",
        "qos": 1,
        "retained": False,
        "payload_size": 4,
    },
    # a type of the host's own
    "order.paid": {"order": "o_000123", "amount": 12_345, "currency": "eur", "text": "x" * 400},
}


@pytest.mark.parametrize("style", ["gateway", "broker", "cloudevents", "standard"])
@pytest.mark.parametrize("type", EVENTS)
def test_encode(benchmark: Any, type: str, style: str) -> None:
    """One envelope."""
    benchmark.group = f"encode {type}"
    event = EventFactory().make(type, EVENTS[type])
    benchmark(Envelopes(gateway_node="gw-1", broker_id="broker-1").encode, style, event)


@pytest.mark.parametrize("type", EVENTS)
@pytest.mark.benchmark(group="make")
def test_make(benchmark: Any, type: str) -> None:
    """One event: its id, its timestamp, its data checked and typed."""
    benchmark(EventFactory().make, type, EVENTS[type])

"""One event of every catalog type, and one of a host's own, with fixed ids and times.

`route.error` and `message.published` are the examples of FluxGate's and FluxMQ's documentation.
"""

from __future__ import annotations

import calendar
import time
from typing import Any

import msgspec

from fluxhook.events.envelope import Envelopes
from fluxhook.events.event import Event
from fluxhook.events.factory import EventFactory
from fluxhook.events.gateway import FailuresAggregated

ENVELOPES = Envelopes(gateway_node="us-east-1-prod-04", broker_id="broker-1")

DATA: dict[str, Any] = {
    "route.matched": {"route": "inventory", "request_id": "req_7h3k9m2p", "headers": {"x": ["1"]}},
    "route.error": {
        "request_id": "req_7h3k9m2p",
        "path": "/api/v2/inventory",
        "status_code": 503,
        "upstream_service": "stock-manager",
        "latency_ms": 2450,
    },
    "upstream.timeout": {"upstream_service": "stock-manager", "waited_s": 2.5},
    "rate.limit.exceeded": {"key": "tenant-7", "limit": 100},
    "service.5xx": {"upstream_service": "stock-manager", "status_code": 502},
    "tls.handshake.fail": {"reason": "certificate has expired"},
    "circuit.broken": {"upstream_service": "stock-manager", "until": None},
    "route.created": {"route": "inventar/für-alle", "by": "ops"},
    "policy.updated": {"policy": "default", "rules": [{"allow": True}, {"allow": False}]},
    "secret.rotated": None,
    "webhook.delivery.failed": {
        "endpoint": "analytics",
        "event_id": "evt_0f1e2d3c4b5a69788796",
        "event_type": "route.error",
        "attempts": 5,
        "cause": "timeout",
        "error": "Operation timed out after 3000 milliseconds with 0 bytes received",
    },
    "webhook.endpoint.disabled": {
        "endpoint": "analytics",
        "reason": "The receiver is gone for good (410); the endpoint was disabled.",
        "failing_since": "2024-05-14T09:32:11Z",
    },
    "webhook.failures.aggregated": FailuresAggregated(
        endpoint="analytics",
        count=1002,
        counts={"service.5xx": 1000, "tls.handshake.fail": 2},
        first_at="2024-05-14T09:32:01Z",
        last_at="2024-05-14T09:32:11Z",
        originals=(
            msgspec.Raw(
                b'{"id":"evt_0f1e2d3c4b5a69788796","type":"service.5xx",'
                b'"timestamp":"2024-05-14T09:32:01Z","gateway_node":"us-east-1-prod-04",'
                b'"data":{"upstream_service":"stock-manager","status_code":502}}'
            ),
        ),
    ),
    "webhook.test": None,
    "client.connected": {
        "client_id": "publisher-1",
        "protocol": "mqtt5",
        "clean_start": True,
        "keep_alive": 60,
        "remote_addr": "203.0.113.7:49152",
    },
    "client.disconnected": {
        "client_id": "publisher-1",
        "reason": "normal",
        "remote_addr": "203.0.113.7:49152",
    },
    "client.session_takeover": {
        "client_id": "publisher-1",
        "from_node": "node-a",
        "to_node": "node-b",
    },
    "message.published": {
        "client_id": "publisher-1",
        "topic": "sensors/temperature",
        "qos": 1,
        "retained": False,
        "payload_size": 256,
    },
    "message.delivered": {
        "client_id": "subscriber-1",
        "topic": "sensors/temperature",
        "qos": 0,
        "payload_size": 256,
    },
    "message.retained": {"topic": "sensors/temperature", "payload_size": 0, "cleared": True},
    "subscription.created": {
        "client_id": "subscriber-1",
        "topic_filter": "sensors/#",
        "qos": 2,
        "subscription_id": 7,
    },
    "subscription.removed": {"client_id": "subscriber-1", "topic_filter": "sensors/#"},
    "auth.success": {"client_id": "publisher-1", "remote_addr": "203.0.113.7:49152"},
    "auth.failure": {
        "client_id": "publisher-1",
        "reason": "bad password",
        "remote_addr": "203.0.113.7:49152",
    },
    "authz.publish_denied": {
        "client_id": "publisher-1",
        "topic": "$SYS/broker/uptime",
        "reason": "no rule allows it",
    },
    "authz.subscribe_denied": {
        "client_id": "subscriber-1",
        "topic_filter": "#",
        "reason": "no rule allows it",
    },
    "order.created": {"order": 17},
}


def seconds(rfc3339: str) -> int:
    return calendar.timegm(time.strptime(rfc3339, "%Y-%m-%dT%H:%M:%SZ"))


def sample(event_type: str, *, payload: bytes | None = None, topic: str | None = None) -> Event:
    """The event of a type; a broker's has FluxMQ's id and time, any other FluxGate's."""
    data = DATA[event_type]
    if payload is not None:
        data = {**(data or {}), "payload": payload}
    maker = EventFactory(include_payload=payload is not None)
    broker = maker.make(event_type, data).native == "broker"
    return maker.make(
        event_type,
        data,
        topic=topic,
        event_id="550e8400-e29b-41d4-a716-446655440000" if broker else "evt_9f8a7b6c5d4e3f2a1b0c",
        now_s=seconds("2026-02-05T12:00:00Z" if broker else "2024-05-14T09:32:11Z"),
    )

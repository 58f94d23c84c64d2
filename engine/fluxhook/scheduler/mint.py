"""Events that the engine makes itself for one endpoint: notifications of aggregation, and tests."""

from __future__ import annotations

import socket
from typing import Any

from fluxhook.config.schema import Config, Endpoint
from fluxhook.errors import PayloadTooLarge
from fluxhook.events.envelope import Envelopes
from fluxhook.events.event import EventMaker, order_key_of
from fluxhook.transport.messages import EventHead

__all__ = ["Mint"]


class Mint:
    """Makes what a publisher would have put into a ring. They go into the store instead, in one
    transaction with what they follow from."""

    def __init__(self, config: Config) -> None:
        host = socket.gethostname()
        self._make = EventMaker(
            native_envelope=config.native_envelope,
            include_payload=config.include_payload,
            event_types=config.event_types,
        ).make
        self._encode = Envelopes(
            gateway_node=config.gateway_node or host, broker_id=config.broker_id or host
        ).encode
        self._max_bytes = int(config.max_event_bytes)

    def make(
        self, endpoint: Endpoint, type: str, data: Any, wall_ns: int
    ) -> tuple[EventHead, bytes]:
        """The event's head and body for the endpoint. Raises EventError, PayloadTooLarge."""
        event = self._make(type, data, now_s=wall_ns // 1_000_000_000)
        body = self._encode(endpoint.envelope, event)
        if len(body) > self._max_bytes:
            raise PayloadTooLarge(
                f"{type}: {len(body)} bytes are over max_event_bytes ({self._max_bytes})"
            )
        key = order_key_of(event, endpoint.order_key) if endpoint.order_key else ""
        return EventHead(event.id, event.type, event.topic or "", key), body

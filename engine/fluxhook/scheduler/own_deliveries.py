"""Deliveries that the scheduler makes itself: notifications of aggregation, tests, and what is sent
again."""

from __future__ import annotations

from typing import Any

from fluxhook.config.schema import Endpoint
from fluxhook.scheduler.endpoints import blocks
from fluxhook.store import Transaction
from fluxhook.store.delivery_id import SCHEDULER, DeliveryIds
from fluxhook.store.rows import DeliveryRow
from fluxhook.transport.engine_clock import EngineClock
from fluxhook.transport.messages import EventHead
from fluxhook.transport.snapshot import Snapshot

__all__ = ["OwnDeliveries"]


class OwnDeliveries:
    """They come from no ring, so the store counts that they were accepted."""

    def __init__(self, clock: EngineClock, snapshot: Snapshot) -> None:
        self._clock = clock
        self._ids = DeliveryIds(SCHEDULER)
        self.configure(snapshot)

    def configure(self, snapshot: Snapshot) -> None:
        self._factory = snapshot.event_factory()

    def create(
        self,
        transaction: Transaction,
        endpoint_id: int,
        endpoint: Endpoint,
        type: str,
        data: Any,
        now_ns: int,
    ) -> DeliveryRow:
        """Add a delivery of a new event that is due now. Raises EventError, PayloadTooLarge."""
        event, body = self.make(endpoint, type, data, now_ns)
        return self.add(transaction, endpoint_id, endpoint, event, body, now_ns)

    def make(
        self, endpoint: Endpoint, type: str, data: Any, now_ns: int
    ) -> tuple[EventHead, bytes]:
        """Return a new event and its body. Raises EventError, PayloadTooLarge."""
        wall_ns = self._clock.wall_ns(now_ns)
        event = self._factory.make(type, data, now_s=wall_ns // 1_000_000_000)
        body = self._factory.encode(endpoint.envelope, event)
        return EventHead.of(event, endpoint.order_key), body

    def add(
        self,
        transaction: Transaction,
        endpoint_id: int,
        endpoint: Endpoint,
        event: EventHead,
        body: bytes,
        now_ns: int,
        cause: str = "",
    ) -> DeliveryRow:
        """Add a delivery that is due now; `cause` says why it is not sent at once."""
        return transaction.add(
            self._ids.next(now_ns),
            endpoint_id,
            event,
            body,
            accepted_ns=self._clock.wall_ns(now_ns),
            due_ns=now_ns,
            ordered=blocks(endpoint),
            cause=cause,
        )

"""Deliveries in the store of a `SchedulerHarness`, and on their way to its worker."""

from __future__ import annotations

from typing import Any

import msgspec

from fluxhook import Duration, Endpoint, Retry
from fluxhook._native import ring
from fluxhook.store import State
from fluxhook.store.rows import DeliveryRow
from fluxhook.transport.messages import DueHead
from support.rig import NEVER
from support.scheduler_harness import S, SchedulerHarness
from support.store_rows import deliveries

__all__ = ["SCHEDULE", "defer", "endpoint", "head", "head_id", "known", "rows", "states", "taken"]

SCHEDULE = tuple(Duration(n * S) for n in (15, 120, 600, 3600))


def endpoint(**changes: Any) -> Endpoint:
    options: dict[str, Any] = {
        "name": "a",
        "url": "https://a.example/",
        "signature": "none",
        "circuit_breaker": NEVER,
        "retry": Retry(schedule=SCHEDULE),
    } | changes
    return Endpoint(**options)


def rows(harness: SchedulerHarness) -> dict[str, DeliveryRow]:
    return {row.event_id: row for row in deliveries(harness.store, limit=10_000)}


def states(harness: SchedulerHarness) -> dict[str, str]:
    return {id: State(row.state).name.lower() for id, row in rows(harness).items()}


def defer(harness: SchedulerHarness, n: int, **how: Any) -> None:
    """Have n events wait in the store, due now."""
    for i in range(n):
        harness.reporter.report(harness.fresh(f"evt_{i:05}", **how), "parked", "paused")


def taken(harness: SchedulerHarness) -> list[ring.RingDelivery]:
    """Return what the scheduler hands out now, as it stands in the inbox."""
    harness.step()
    return harness.inbox.take(100_000)


def head(delivery: ring.RingDelivery) -> DueHead:
    return msgspec.msgpack.decode(delivery.event, type=DueHead)


def head_id(harness: SchedulerHarness, delivery: ring.RingDelivery) -> str:
    return head(delivery).event.split(b"\0")[0].decode()


def known(harness: SchedulerHarness, id: int) -> ring.RingDelivery:
    """Return a delivery of the store in a worker's hands."""
    delivery = harness.fresh("unused")
    delivery.settle()
    delivery.id = id
    return delivery

"""Which events the store still has, so that what tells of an event can lead to its deliveries."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from fluxhook.admin.service import Service
from fluxhook.store import ReadStore, queries
from fluxhook.store.delivery_id import shown_id

__all__ = ["Known", "known_events"]


class Known(NamedTuple):
    """How many deliveries of an event there are, and the id of the newest."""

    newest: str
    deliveries: int


def known_events(service: Service, events: Collection[str]) -> dict[str, Known]:
    """Return those of the events with these ids that the store has deliveries of. Raises StoreError."""
    if not events:
        return {}
    with ReadStore.open(service.datadir.store) as store:
        rows = queries.known_events(store, events)
    return {event: Known(shown_id(id), n) for event, id, n in rows}

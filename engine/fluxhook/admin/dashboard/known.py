"""Which events the store still has, so that what tells of an event can lead to its deliveries."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Final, NamedTuple

from fluxhook.admin.paging import delivery_id
from fluxhook.admin.service import Service
from fluxhook.store import ReadStore
from fluxhook.store.database import translated

__all__ = ["Known", "known_events"]

# Reads the whole table, as the search for one event id does.
_KNOWN: Final = """
SELECT event_id, max(id), count(*) FROM deliveries NOT INDEXED
WHERE event_id IN (SELECT value FROM json_each(:events)) GROUP BY event_id
"""


class Known(NamedTuple):
    """How many deliveries of an event there are, and the id of the newest."""

    newest: str
    deliveries: int


def known_events(service: Service, events: Collection[str]) -> dict[str, Known]:
    """Those of the events with these ids that the store has deliveries of. Raises StoreError."""
    if not events:
        return {}
    with ReadStore.open(service.datadir.store) as store, translated(store.path):
        rows = store.db.execute(_KNOWN, {"events": json.dumps(list(events))}).fetchall()
    return {event: Known(delivery_id(id), n) for event, id, n in rows}

"""Rows of a store by the ids of endpoints, read as the API reads its pages."""

from __future__ import annotations

from typing import Any, Final

from fluxhook.store import ReadStore, queries
from fluxhook.store.queries import DeliveryFilter
from fluxhook.store.rows import DeliveryRow

__all__ = ["dead_letters", "deliveries"]

_ALL: Final = 10**7


def deliveries(
    store: ReadStore,
    *,
    endpoint: int | None = None,
    before: int | None = None,
    limit: int = 100,
    **wanted: Any,
) -> list[DeliveryRow]:
    """Return the newest first; `before` is the last id of the page before."""
    found = queries.deliveries(store, DeliveryFilter(**wanted), before=before, limit=_ALL)
    return [row for row in found if endpoint in (None, row.endpoint)][:limit]


def dead_letters(
    store: ReadStore,
    *,
    endpoint: int | None = None,
    before: DeliveryRow | None = None,
    limit: int = 100,
) -> list[DeliveryRow]:
    """Return the latest to die first; `before` is the last of the page before."""
    place = None if before is None else (before.ended_ns or 0, before.id)
    found = queries.dead_letters(store, DeliveryFilter(), before=place, limit=_ALL)
    return [row for row in found if endpoint in (None, row.endpoint)][:limit]

"""The event types that an engine knows, as the API and the command line list them."""

from __future__ import annotations

from collections.abc import Iterable

from fluxhook.admin.models import EventType
from fluxhook.events.catalog import BOUND, BROKER, TYPES
from fluxhook.events.schemas import VERSIONS, dataschema, schema

__all__ = ["event_types"]


def event_types(own: Iterable[str]) -> list[EventType]:
    """Return both catalogs, and those of the host's own types that are in neither."""
    known = [
        EventType(
            type=name,
            catalog="broker" if name in BROKER else "gateway",
            topic=name in BOUND,
            version=VERSIONS[name],
            dataschema=dataschema(name),
            schema=schema(name),
        )
        for name in TYPES
    ]
    return known + [
        EventType(type=name, catalog="host", topic=False, schema=None)
        for name in own
        if name not in TYPES
    ]

"""/v1/event-types: the catalogs, and the host's own types."""

from __future__ import annotations

from litestar import get
from litestar.di import NamedDependency

from fluxhook.admin.document import rules
from fluxhook.admin.models import EventType, Page
from fluxhook.admin.service import Service

__all__ = ["HANDLERS"]


@get(
    "/v1/event-types",
    opt=rules("read"),
    tags=["records"],
    summary="List event types",
    sync_to_thread=True,
)
def list_event_types(service: NamedDependency[Service]) -> Page[EventType]:
    """List both catalogs, with the JSON schemas of their data and the versions of these, and the
    host's own types."""
    return Page(service.event_types())


HANDLERS = (list_event_types,)

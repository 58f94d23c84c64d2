"""The routes of the API, thin over `admin.service`."""

from litestar.handlers import HTTPRouteHandler

from fluxhook.admin.routes import (
    audit,
    dead_letters,
    deliveries,
    event_types,
    events,
    health,
    history,
    webhooks,
)

__all__ = ["HANDLERS"]

HANDLERS: tuple[HTTPRouteHandler, ...] = (
    *webhooks.HANDLERS,
    *history.HANDLERS,
    *events.HANDLERS,
    *deliveries.HANDLERS,
    *dead_letters.HANDLERS,
    *audit.HANDLERS,
    *event_types.HANDLERS,
    *health.HANDLERS,
)

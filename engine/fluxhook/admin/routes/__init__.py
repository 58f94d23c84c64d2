"""The routes of the API, thin over `admin.service`."""

from litestar.handlers import HTTPRouteHandler

from fluxhook.admin.routes import dead_letters, deliveries, events, health, records, webhooks

__all__ = ["HANDLERS"]

HANDLERS: tuple[HTTPRouteHandler, ...] = (
    *webhooks.HANDLERS,
    *events.HANDLERS,
    *deliveries.HANDLERS,
    *dead_letters.HANDLERS,
    *records.HANDLERS,
    *health.HANDLERS,
)

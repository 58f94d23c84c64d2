"""/deliveries: the search among what the store knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastapi import Request
from nicegui import ui

from fluxhook.admin.dashboard.session.viewer import DashboardContext, Viewer, complaint
from fluxhook.admin.dashboard.widgets.delivery_table import DeliveryTable
from fluxhook.admin.dashboard.widgets.dom import tag, text
from fluxhook.admin.dashboard.widgets.forms import filter_form, next_page
from fluxhook.admin.dashboard.widgets.frame import frame
from fluxhook.admin.models import Delivery, Page
from fluxhook.admin.paging import delivery_filter
from fluxhook.admin.references import by_id
from fluxhook.errors import FluxhookError

__all__ = ["endpoint_choices", "register"]

_PATH: Final = "/deliveries"
_FIELDS: Final = ("event_id", "type", "endpoint", "state", "since", "until")
_STATES: Final = (
    ("", "Any"),
    ("waiting", "Waiting"),
    ("blocked", "Blocked"),
    ("delivered", "Delivered"),
    ("dead", "Dead"),
    ("dropped", "Dropped"),
)
_ROWS: Final = 50


def register(context: DashboardContext) -> None:
    @ui.page(_PATH, response_timeout=30)
    async def deliveries(request: Request) -> None:
        await _deliveries(Viewer(context, request), request.query_params)


async def _deliveries(viewer: Viewer, query: Mapping[str, str]) -> None:
    values = {name: query.get(name) or None for name in _FIELDS}
    cursor = query.get("cursor") or None
    endpoints = await endpoint_choices(viewer)
    status = await viewer.status()

    async def read() -> Page[Delivery]:
        which = delivery_filter(**values)
        return await viewer.ask(viewer.service.deliveries, which, cursor, _ROWS)

    with frame(viewer, "Deliveries", _PATH) as page:
        page.engine(status.running)
        with tag("div", "page-head"):
            text("h1", "Deliveries")
        with tag("section", "card"):
            fields = (
                ("event_id", "Event id", "long", "evt_..."),
                ("type", "Type", "", "route.error"),
                ("endpoint", "Endpoint", "", endpoints),
                ("state", "State", "", _STATES),
                ("since", "Since", "", "15m, or a time"),
                ("until", "Until", "", "5m, or a time"),
            )
            filter_form(_PATH, fields, values)
            table = DeliveryTable(
                "No delivery matches" if any(values.values()) else "No deliveries in the store yet",
                "The store has what did not succeed at once, test events, and all deliveries of "
                "endpoints with record: all.",
            )
            older = tag("div", "pages")
    try:
        found = await read()
    except FluxhookError as error:
        page.say(complaint(error))
        table.show([])
        return
    table.show(found.items)
    next_page(older, _PATH, values, cursor, found.next_cursor)
    if cursor is None:

        async def refresh() -> None:
            page.engine((await viewer.status()).running)
            table.show((await read()).items)

        page.every(refresh)


async def endpoint_choices(viewer: Viewer) -> list[tuple[str, str]]:
    """Return the endpoints as the options of a filter."""
    webhooks = await viewer.ask(viewer.service.webhooks)
    return [("", "Any"), *((by_id(one.id), one.name) for one in webhooks)]

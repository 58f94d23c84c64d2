"""/audit: what was given up and erased."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from fastapi import Request
from nicegui import ui

from fluxhook.admin.dashboard import words
from fluxhook.admin.dashboard.known import known_events
from fluxhook.admin.dashboard.session.viewer import DashboardContext, Viewer, complaint
from fluxhook.admin.dashboard.widgets.audit_table import AuditTable
from fluxhook.admin.dashboard.widgets.dom import tag, text
from fluxhook.admin.dashboard.widgets.forms import filter_form, next_page
from fluxhook.admin.dashboard.widgets.frame import frame
from fluxhook.admin.dashboard.widgets.trail_links import trail_links
from fluxhook.admin.models import Page
from fluxhook.admin.paging import delivery_filter
from fluxhook.errors import FluxhookError
from fluxhook.store.audit import AuditEntry

__all__ = ["register"]

_PATH: Final = "/audit"
_FIELDS: Final = ("event_id", "type", "endpoint", "action", "since", "until")
_ACTIONS: Final = (("", "Any"), ("purged", words.action_sentence("purged")))
_ROWS: Final = 50
#: The trail is read from its files, which may have 64 MiB each, and grows but rarely.
_REFRESH_S: Final = 5.0


def register(context: DashboardContext) -> None:
    @ui.page(_PATH, response_timeout=30)
    async def audit(request: Request) -> None:
        await _audit(Viewer(context, request), request.query_params)


async def _audit(viewer: Viewer, query: Mapping[str, str]) -> None:
    values = {name: query.get(name) or None for name in _FIELDS}
    filtered = any(values.values())
    cursor = query.get("cursor") or None
    status = await viewer.status()
    with frame(viewer, "Audit trail", _PATH) as page:
        page.engine(status.running)
        with tag("div", "page-head"):
            text("h1", "Audit trail")
            trail_links(_PATH)
        with tag("section", "card"):
            fields = (
                ("event_id", "Event id", "long", "evt_..."),
                ("type", "Type", "", "route.error"),
                ("endpoint", "Endpoint", "", "also a former one"),
                ("action", "What happened", "", _ACTIONS),
                ("since", "Since", "", "24h, or a time"),
                ("until", "Until", "", "1h, or a time"),
            )
            filter_form(_PATH, fields, values)
            table = AuditTable(
                "No entry matches" if filtered else "Nothing was given up and erased",
                ""
                if filtered
                else "What cannot be delivered is kept for the retention, then it has "
                "a line here before it is erased.",
            )
            older = tag("div", "pages")

    async def read() -> Page[AuditEntry]:
        which = delivery_filter(**{n: text for n, text in values.items() if n != "action"})
        return await viewer.ask(viewer.service.audit, which, values["action"], cursor, _ROWS)

    async def show(entries: list[AuditEntry]) -> None:
        known = await viewer.ask(known_events, viewer.service, {one.event_id for one in entries})
        endpoints = {one.name: one.id for one in await viewer.ask(viewer.service.webhooks)}
        table.show(entries, endpoints, known)

    try:
        found = await read()
        await show(found.items)
    except FluxhookError as error:
        page.say(complaint(error))
        table.show([])
        return
    next_page(older, _PATH, values, cursor, found.next_cursor)
    shown, read_at = found.items, time.monotonic()

    async def refresh() -> None:
        nonlocal shown, read_at
        page.engine((await viewer.status()).running)
        # With a filter all of the files may have to be read.
        if cursor is None and not filtered and time.monotonic() >= read_at + _REFRESH_S:
            entries = (await read()).items
            if entries != shown:
                await show(entries)
            shown, read_at = entries, time.monotonic()

    page.every(refresh)

"""/audit/changes: who changed what."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from fastapi import Request
from nicegui import ui

from fluxhook.admin.dashboard import words
from fluxhook.admin.dashboard.session.viewer import DashboardContext, Viewer, complaint
from fluxhook.admin.dashboard.widgets.change_table import ChangeTable
from fluxhook.admin.dashboard.widgets.dom import tag, text
from fluxhook.admin.dashboard.widgets.forms import filter_form, next_page
from fluxhook.admin.dashboard.widgets.frame import frame
from fluxhook.admin.dashboard.widgets.trail_links import trail_links
from fluxhook.admin.models import Page
from fluxhook.admin.trails import ChangeFilter
from fluxhook.errors import FluxhookError
from fluxhook.store.audit import ChangeEntry

__all__ = ["register"]

_PATH: Final = "/audit/changes"
_FIELDS: Final = ("actor", "endpoint", "action", "since", "until")
_ROWS: Final = 50
#: The trail is read from its files, and grows but rarely.
_REFRESH_S: Final = 5.0


def register(context: DashboardContext) -> None:
    @ui.page(_PATH, response_timeout=30)
    async def changes(request: Request) -> None:
        await _changes(Viewer(context, request), request.query_params)


async def _changes(viewer: Viewer, query: Mapping[str, str]) -> None:
    values = {name: query.get(name) or None for name in _FIELDS}
    filtered = any(values.values())
    cursor = query.get("cursor") or None
    status = await viewer.status()
    with frame(viewer, "Changes", "/audit") as page:
        page.engine(status.running)
        with tag("div", "page-head"):
            text("h1", "Audit trail")
            trail_links(_PATH)
        with tag("section", "card"):
            actions = (("", "Any"), *words.changes())
            fields = (
                ("actor", "Who", "", "a token's name, or a user"),
                ("endpoint", "Endpoint", "", "also a former one"),
                ("action", "What happened", "", actions),
                ("since", "Since", "", "24h, or a time"),
                ("until", "Until", "", "1h, or a time"),
            )
            filter_form(_PATH, fields, values)
            table = ChangeTable("No change matches" if filtered else "Nothing was changed")
            older = tag("div", "pages")

    async def read() -> Page[ChangeEntry]:
        return await viewer.ask(viewer.service.changes, ChangeFilter(**values), cursor, _ROWS)

    async def show(entries: list[ChangeEntry]) -> None:
        endpoints = {one.name: one.id for one in await viewer.ask(viewer.service.webhooks)}
        table.show(entries, endpoints)

    try:
        found = await read()
        await show(found.items)
    except FluxhookError as error:
        page.say(complaint(error))
        table.show([], {})
        return
    next_page(older, _PATH, values, cursor, found.next_cursor)
    shown, read_at = found.items, time.monotonic()

    async def refresh() -> None:
        nonlocal shown, read_at
        page.engine((await viewer.status()).running)
        if cursor is None and not filtered and time.monotonic() >= read_at + _REFRESH_S:
            entries = (await read()).items
            if entries != shown:
                await show(entries)
            shown, read_at = entries, time.monotonic()

    page.every(refresh)

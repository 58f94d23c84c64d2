"""/dead-letters: what was given up: to be looked at, replayed or purged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from fastapi import Request
from nicegui import ui

from fluxhook.admin.dashboard.pages.deliveries import endpoint_choices
from fluxhook.admin.dashboard.session.viewer import (
    DashboardContext,
    Viewer,
    complain,
    complaint,
    tell,
)
from fluxhook.admin.dashboard.widgets.delivery_table import DeliveryTable
from fluxhook.admin.dashboard.widgets.dialogs import confirm
from fluxhook.admin.dashboard.widgets.dom import button, enable, tag, text
from fluxhook.admin.dashboard.widgets.forms import filter_form, next_page
from fluxhook.admin.dashboard.widgets.frame import frame
from fluxhook.admin.dashboard.widgets.progress import ProgressLine
from fluxhook.admin.models import DeadLetterFilter, Delivery, Page, Progress, PurgeRequest
from fluxhook.admin.paging import delivery_filter
from fluxhook.errors import FluxhookError

__all__ = ["register"]

_PATH: Final = "/dead-letters"
_FIELDS: Final = ("endpoint", "type", "cause", "since", "until")
_ROWS: Final = 50
_REPLAYED: Final = "Each is attempted again now, with all of its attempts before it."
_PURGED: Final = "They are erased for good. The audit trail keeps a line for each."
#: what a filter says of them
_SAID: Final = {
    "endpoint": "endpoint",
    "type": "type",
    "cause": "cause",
    "since": "died since",
    "until": "died until",
}


def register(context: DashboardContext) -> None:
    @ui.page(_PATH, response_timeout=30)
    async def dead_letters(request: Request) -> None:
        await _Page(Viewer(context, request), request.query_params).build()


class _Page:
    def __init__(self, viewer: Viewer, query: Mapping[str, str]) -> None:
        self.viewer = viewer
        self.service = viewer.service
        self.values = {name: query.get(name) or None for name in _FIELDS}
        self.filtered = any(self.values.values())
        self.cursor = query.get("cursor") or None

    async def build(self) -> None:
        endpoints = await endpoint_choices(self.viewer)
        self.names = dict(endpoints)
        status = await self.viewer.status()
        may_write = self.viewer.may_write
        with frame(self.viewer, "Dead letters", _PATH) as page:
            page.engine(status.running)
            with tag("div", "page-head"):
                text("h1", "Dead letters")
                if may_write:
                    self._buttons()
            self.progress = ProgressLine()
            with tag("section", "card"):
                fields = (
                    ("endpoint", "Endpoint", "", endpoints),
                    ("type", "Type", "", "route.error"),
                    ("cause", "Cause", "", "timeout"),
                    ("since", "Died since", "", "1h, or a time"),
                    ("until", "Died until", "", "5m, or a time"),
                )
                filter_form(_PATH, fields, self.values)
                self.table = DeliveryTable(
                    "No dead letter matches" if self.filtered else "No dead letters",
                    "" if self.filtered else "What fails for good is kept here, to be replayed.",
                    ended=True,
                    on_replay=self._replay_one if may_write else None,
                    on_selected=self._selected if may_write else None,
                )
                older = tag("div", "pages")
        try:
            found = await self._read()
        except FluxhookError as error:
            page.say(complaint(error))
            self.table.show([])
            return
        self._show(found.items)
        next_page(older, _PATH, self.values, self.cursor, found.next_cursor)

        async def refresh() -> None:
            page.engine((await self.viewer.status()).running)
            await self._refresh()

        page.every(refresh)

    def _buttons(self) -> None:
        with tag("div", "buttons"):
            self.replay_selected = button("Replay chosen", "replay", "primary")
            self.replay_selected.on("click", self._replay_selected)
            self.purge_selected = button("Purge chosen", "trash", "danger")
            self.purge_selected.on("click", self._purge_selected)
            matching = "all that match" if self.filtered else "all"
            self.replay_all = button(f"Replay {matching}", "replay")
            self.replay_all.on("click", self._replay_all)
            self.purge_all = button(f"Purge {matching}", "trash", "danger")
            self.purge_all.on("click", self._purge_all)
            self._selected([])

    async def _read(self) -> Page[Delivery]:
        which = delivery_filter(**self.values)
        return await self.viewer.ask(self.service.dead_letters, which, self.cursor, _ROWS)

    async def _refresh(self, *, anew: bool = False) -> None:
        self._show((await self._read()).items, anew=anew)

    def _show(self, found: list[Delivery], *, anew: bool = False) -> None:
        self.table.show(found, anew=anew)
        if self.viewer.may_write:
            for control in (self.replay_all, self.purge_all):
                enable(control, bool(found))

    def _selected(self, keys: list[str]) -> None:
        for control in (self.replay_selected, self.purge_selected):
            enable(control, bool(keys))

    # ---- what can be done --------------------------------------------------------------------

    async def _replay_one(self, id: str) -> None:
        await self.viewer.attempt("It is delivered again.", self.service.replay_one, id)
        await self._refresh()

    async def _replay_selected(self) -> None:
        await self._each(self.service.replay_one, "Replayed")

    async def _purge_selected(self) -> None:
        what = _dead_letters(len(self.table.table.selected))
        if await confirm(f"Purge {what}?", _PURGED, f"Purge {what}", dangerous=True):
            await self._each(self.service.purge_one, "Purged")

    async def _each(self, action: Callable[[str], None], done: str) -> None:
        chosen = list(self.table.table.selected)
        try:
            for n, id in enumerate(chosen, 1):
                await self.viewer.change(action, id)
                self.progress.show(done, n, len(chosen))
        except FluxhookError as error:
            complain(error)
        self.progress.end()
        await self._refresh(anew=True)

    async def _replay_all(self) -> None:
        if (n := await self._count()) is None:
            return
        if await confirm(f"Replay {_dead_letters(n)}?", self._said(_REPLAYED), f"Replay {n:,}"):

            def step(cursor: str | None) -> Progress:
                which = msgspec.convert({**self.values, "cursor": cursor}, DeadLetterFilter)
                return self.service.replay(which)

            await self._walk(step, "Replayed", n)

    async def _purge_all(self) -> None:
        if (n := await self._count()) is None:
            return
        title, said = f"Purge {_dead_letters(n)}?", self._said(_PURGED)
        if await confirm(title, said, f"Purge {n:,}", dangerous=True):

            def step(cursor: str | None) -> Progress:
                which = {**self.values, "cursor": cursor, "all": not self.filtered}
                return self.service.purge(msgspec.convert(which, PurgeRequest))

            await self._walk(step, "Purged", n)

    async def _count(self) -> int | None:
        """Return how many there are to be replayed or purged; None, after a note, where it cannot be
        known or there is none."""
        try:
            which = delivery_filter(**self.values)
            n = await self.viewer.ask(self.service.count_dead_letters, which)
        except FluxhookError as error:
            complain(error)
            return None
        if not n:
            tell("There is none any more.")
            await self._refresh(anew=True)
        return n or None

    def _said(self, consequence: str) -> str:
        """Return what becomes of the dead letters, after which ones they are."""
        if not self.filtered:
            return f"All dead letters of every endpoint. {consequence}"
        chosen = {name: value for name, value in self.values.items() if value}
        if "endpoint" in chosen:
            chosen["endpoint"] = self.names.get(chosen["endpoint"], chosen["endpoint"])
        which = ", ".join(f"{_SAID[name]} {value}" for name, value in chosen.items())
        return f"All that match: {which}. {consequence}"

    async def _walk(self, step: Callable[[str | None], Progress], done: str, counted: int) -> None:
        """Go on step by step as far as there are any; `counted` is how many there were at first."""
        cursor, n = None, 0
        self.progress.show(done, n, counted)
        try:
            while True:
                made = await self.viewer.change(step, cursor)
                n += made.done
                self.progress.show(done, n, counted)
                cursor = made.next_cursor
                if cursor is None:
                    break
        except FluxhookError as error:
            complain(error)
        self.progress.end()
        await self._refresh(anew=True)


def _dead_letters(n: int) -> str:
    return f"{n:,} dead letter{'s' * (n != 1)}"

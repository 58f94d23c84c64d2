"""/dead-letters: what was given up: to be looked at, replayed or purged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from fastapi import Request
from nicegui import ui

from fluxhook.admin.dashboard.pages.deliveries import endpoint_choices
from fluxhook.admin.dashboard.session.viewer import DashboardContext, Viewer, complain, complaint
from fluxhook.admin.dashboard.widgets.delivery_table import DeliveryTable
from fluxhook.admin.dashboard.widgets.dialogs import confirm
from fluxhook.admin.dashboard.widgets.dom import button, tag, text
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

    async def _refresh(self) -> None:
        self._show((await self._read()).items)

    def _show(self, found: list[Delivery]) -> None:
        self.table.show(found)
        if self.viewer.may_write:
            for control in (self.replay_all, self.purge_all):
                control.set_visibility(bool(found))

    def _selected(self, keys: list[str]) -> None:
        for control in (self.replay_selected, self.purge_selected):
            control.set_visibility(bool(keys))

    # ---- what can be done --------------------------------------------------------------------

    async def _replay_one(self, id: str) -> None:
        await self.viewer.attempt("It is delivered again.", self.service.replay_one, id)
        await self._refresh()

    async def _replay_selected(self) -> None:
        await self._each(self.service.replay_one, "Replayed")

    async def _purge_selected(self) -> None:
        n = len(self.table.table.selected)
        if await confirm(
            f"Purge {n} dead letter{'s' * (n != 1)}?",
            "They are erased for good. The audit trail keeps a line for each.",
            "Purge",
            dangerous=True,
        ):
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
        await self._refresh()

    async def _replay_all(self) -> None:
        if await confirm(
            "Replay all that match?" if self.filtered else "Replay all dead letters?",
            "Each is attempted again now, with all of its attempts before it.",
            "Replay",
        ):

            def step(cursor: str | None) -> Progress:
                which = msgspec.convert({**self.values, "cursor": cursor}, DeadLetterFilter)
                return self.service.replay(which)

            await self._walk(step, "Replayed")

    async def _purge_all(self) -> None:
        if await confirm(
            "Purge all that match?" if self.filtered else "Purge all dead letters?",
            "They are erased for good. The audit trail keeps a line for each.",
            "Purge",
            dangerous=True,
        ):

            def step(cursor: str | None) -> Progress:
                which = {**self.values, "cursor": cursor, "all": not self.filtered}
                return self.service.purge(msgspec.convert(which, PurgeRequest))

            await self._walk(step, "Purged")

    async def _walk(self, step: Callable[[str | None], Progress], done: str) -> None:
        """Step by step, as far as there are any. How many there are is known without a filter."""
        whole = None
        if not self.filtered:
            whole = (await self.viewer.status()).totals.dead
        cursor, n = None, 0
        self.progress.show(done, n, whole)
        try:
            while True:
                made = await self.viewer.change(step, cursor)
                n += made.done
                self.progress.show(done, n, whole)
                cursor = made.next_cursor
                if cursor is None:
                    break
        except FluxhookError as error:
            complain(error)
        self.progress.end()
        await self._refresh()

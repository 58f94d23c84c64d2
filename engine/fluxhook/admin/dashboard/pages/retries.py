"""/retries: what is tried again when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request
from nicegui import ui

from fluxhook.admin.dashboard import words
from fluxhook.admin.dashboard.schedule import BUCKETS, EndpointSchedule, Schedule, read_schedule
from fluxhook.admin.dashboard.session.viewer import DashboardContext, Viewer
from fluxhook.admin.dashboard.widgets import tables
from fluxhook.admin.dashboard.widgets.delivery_table import DeliveryTable
from fluxhook.admin.dashboard.widgets.dom import link, tag, text
from fluxhook.admin.dashboard.widgets.frame import card, frame
from fluxhook.admin.dashboard.widgets.retrying import close_breaker, retry_now
from fluxhook.admin.dashboard.widgets.tables import Column, LiveTable, Row
from fluxhook.admin.dashboard.widgets.tiles import Tile
from fluxhook.admin.models import Status
from fluxhook.admin.references import by_id

__all__ = ["register"]


def register(context: DashboardContext) -> None:
    @ui.page("/retries", response_timeout=30)
    async def retries(request: Request) -> None:
        await _retries(Viewer(context, request))


async def _retries(viewer: Viewer) -> None:
    async def read() -> tuple[Status, Schedule]:
        status = await viewer.status()
        halted = [one.name for one in status.webhooks if one.state in words.HALTED]
        return status, await viewer.ask(read_schedule, viewer.service, halted)

    async def act(id: str) -> None:
        status, schedule = await read()
        name = next((one.name for one in schedule.endpoints if one.id == id), id)
        if any(one.id == id and one.state == "open" for one in status.webhooks):
            await close_breaker(viewer, by_id(id), name)
        else:
            await retry_now(viewer, by_id(id), name)
        viewer.expire()
        await refresh()

    first = await read()
    with frame(viewer, "Retries", "/retries") as page:
        with tag("div", "page-head"):
            text("h1", "Retries")
        with tag("dl", "tiles"):
            tiles = [Tile(name) for name, _ in BUCKETS]
        with card("By endpoint") as side:
            buckets = _buckets(act if viewer.may_write else None)
            with tag("div", "empty") as none:
                text("p", "Nothing waits for a retry", "title")
                text(
                    "p",
                    "What fails is tried again by its endpoint's schedule, and stands here until then.",
                )
            with side:
                link("All that wait", "/deliveries?state=waiting")
        with card("Next"):
            upcoming = DeliveryTable(
                "Nothing is due", "What endpoints that are paused have waiting does not come here."
            )

    def show(status: Status, schedule: Schedule) -> None:
        page.engine(status.running)
        states = {one.id: one.state for one in status.webhooks}
        none.set_visibility(not schedule.endpoints)
        buckets.set_visibility(bool(schedule.endpoints))
        going = [e for e in schedule.endpoints if states.get(e.id) not in words.HALTED]
        for i, tile in enumerate(tiles):
            tile.show(words.count(sum(one.counts[i] for one in going)))
        rows = [_row(one, states.get(one.id, "removed")) for one in schedule.endpoints]
        if not viewer.may_write:
            rows = [row._replace(cells=row.cells[:-1]) for row in rows]
        buckets.show(rows)
        upcoming.show(schedule.upcoming)

    async def refresh() -> None:
        show(*await read())

    show(*first)
    page.every(refresh)


def _buckets(act: Callable[[str], Any] | None) -> LiveTable:
    columns = (
        Column("endpoint", "Endpoint", "wide"),
        Column("state", "State"),
        *(Column(name, name, "num") for name, _ in BUCKETS),
        Column("total", "In all", "num"),
    )
    if act is not None:
        columns += (Column("act", "", "act"),)
    return LiveTable("Retries by endpoint and time", columns, on_act=act)


def _row(one: EndpointSchedule, state: str) -> Row:
    return Row(
        one.id,
        (
            tables.endpoint(one.name, one.id),
            tables.state(state),
            *(words.count(n) if n else None for n in one.counts),
            words.count(sum(one.counts)),
            _action(one.name, state),
        ),
    )


def _action(name: str, state: str) -> tables.Cell:
    """Return what can be done for an endpoint to go on at once."""
    if state == "open":
        return tables.action(f"Close the breaker of {name}", "Close breaker", "play")
    if state in (*words.HALTED, "removed"):
        return None
    return tables.action(f"Retry {name} now", "Retry now", "replay")

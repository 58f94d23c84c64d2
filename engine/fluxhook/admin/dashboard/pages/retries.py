"""/retries: what is tried again when."""

from __future__ import annotations

from fastapi import Request
from nicegui import ui

from fluxhook.admin.dashboard import tables, words
from fluxhook.admin.dashboard.delivery_table import DeliveryTable
from fluxhook.admin.dashboard.dom import link, tag, text
from fluxhook.admin.dashboard.frame import card, frame
from fluxhook.admin.dashboard.schedule import BUCKETS, Schedule, read_schedule
from fluxhook.admin.dashboard.tables import Column, LiveTable, Row
from fluxhook.admin.dashboard.viewer import Desk, Viewer

__all__ = ["register"]


def register(desk: Desk) -> None:
    @ui.page("/retries", response_timeout=30)
    async def retries(request: Request) -> None:
        await _retries(Viewer(desk, request))


async def _retries(viewer: Viewer) -> None:
    first = await viewer.ask(read_schedule, viewer.service)
    status = await viewer.desk.sampler.status()
    with frame(viewer, "Retries", "/retries") as page:
        with tag("div", "page-head"):
            text("h1", "Retries")
        with card("Due within, by endpoint") as side:
            buckets = LiveTable(
                "Retries by endpoint and time",
                (
                    Column("endpoint", "Endpoint", "wide"),
                    *(Column(name, name, "num") for name, _ in BUCKETS),
                    Column("total", "In all", "num"),
                ),
            )
            with tag("div", "empty") as none:
                text("p", "Nothing waits for a retry", "title")
                text(
                    "p",
                    "What fails is tried again by its endpoint's schedule, and stands here until then.",
                )
            with side:
                link("All that wait", "/deliveries?state=waiting")
        with card("Next"):
            upcoming = DeliveryTable("Nothing is due")

    def show(schedule: Schedule) -> None:
        none.set_visibility(not schedule.endpoints)
        buckets.set_visibility(bool(schedule.endpoints))
        buckets.show(
            [
                Row(
                    one.id,
                    (
                        tables.cell(one.name, href=f"/endpoints/{one.id}"),
                        *(words.count(n) if n else None for n in one.counts),
                        words.count(sum(one.counts)),
                    ),
                )
                for one in schedule.endpoints
            ]
        )
        upcoming.show(schedule.upcoming)

    async def refresh() -> None:
        page.engine((await viewer.desk.sampler.status()).running)
        show(await viewer.ask(read_schedule, viewer.service))

    page.engine(status.running)
    show(first)
    page.every(refresh)

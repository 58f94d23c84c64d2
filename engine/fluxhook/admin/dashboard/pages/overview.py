"""/: what flows at this moment, what waits, and how each endpoint does."""

from __future__ import annotations

from fastapi import Request
from nicegui import ui

from fluxhook.admin.dashboard import words
from fluxhook.admin.dashboard.sampler import Point
from fluxhook.admin.dashboard.session.viewer import DashboardContext, Viewer
from fluxhook.admin.dashboard.widgets.charts import LATENCY, PENDING, THROUGHPUT, LineChart, legend
from fluxhook.admin.dashboard.widgets.dom import link, tag, text
from fluxhook.admin.dashboard.widgets.endpoint_table import EndpointTable
from fluxhook.admin.dashboard.widgets.frame import card, frame
from fluxhook.admin.dashboard.widgets.tables import Column, LiveTable, Row
from fluxhook.admin.dashboard.widgets.tiles import Tile
from fluxhook.admin.models import Status

__all__ = ["register"]


def register(context: DashboardContext) -> None:
    @ui.page("/", response_timeout=30)
    async def overview(request: Request) -> None:
        await _overview(Viewer(context, request))


async def _overview(viewer: Viewer) -> None:
    first = await viewer.status()
    with frame(viewer, "Overview", "/") as page:
        text("h1", "Overview", "hidden")
        with tag("dl", "tiles"):
            accepted = Tile("Accepted", "/s")
            delivered = Tile("Delivered", "/s")
            failed = Tile("Failed attempts", "/s")
            pending = Tile("Pending")
            rate = Tile("Success rate")
            dead = Tile("Dead letters", href="/dead-letters")
        with tag("div", "grid two"):
            with card("Throughput, events a second") as side:
                with side:
                    legend(THROUGHPUT)
                throughput = LineChart(THROUGHPUT, "/s", "Events accepted, delivered and failed")
            with card("Latency of delivered attempts, ms") as side:
                with side:
                    legend(LATENCY)
                latency = LineChart(LATENCY, " ms", "Latency percentiles p50, p95 and p99")
        with card("Endpoints") as side:
            table = EndpointTable(viewer.may_write)
            with side:
                link("All endpoints", "/endpoints")
        with tag("div", "grid two"):
            with card("Queue depth, events that wait"):
                queue = LineChart(PENDING, "", "Events that wait for their delivery")
            with card("Processes"):
                processes = _processes()

    def show(status: Status, points: list[Point]) -> None:
        totals, now = status.totals, points[-1] if points else None
        page.engine(status.running)
        accepted.show(words.per_second(now and now.accepted), f"{totals.accepted:,} in all")
        delivered.show(words.per_second(now and now.delivered), f"{totals.delivered:,} in all")
        failed.show(words.per_second(now and now.failed), f"{totals.failed_attempts:,} in all")
        queued = sum(one.queued for one in status.webhooks)
        pending.show(
            words.count(totals.pending), f"{queued:,} queued, {totals.pending - queued:,} stored"
        )
        attempts = totals.delivered + totals.failed_attempts
        rate.show(
            words.percent(totals.delivered / attempts if attempts else None),
            f"of {attempts:,} attempts",
        )
        dead.show(
            words.count(totals.dead),
            "to replay or purge" if totals.dead else "none",
            bad=totals.dead > 0,
        )
        for chart in (throughput, latency, queue):
            chart.show(points)
        table.show(status.webhooks)
        processes.show(
            [
                Row(
                    f"{one.role} {one.name}",
                    (
                        f"{one.role} {one.name}",
                        words.count(one.accepted if one.role == "publisher" else one.succeeded),
                        words.count(one.refused if one.role == "publisher" else one.failed),
                    ),
                )
                for one in status.processes
            ]
        )

    async def refresh() -> None:
        show(await viewer.status(), viewer.line())

    show(first, viewer.line())
    page.every(refresh)


def _processes() -> LiveTable:
    return LiveTable(
        "Processes",
        (
            Column("name", "Process"),
            Column("good", "Accepted / delivered", "num"),
            Column("bad", "Refused / failed", "num"),
        ),
    )

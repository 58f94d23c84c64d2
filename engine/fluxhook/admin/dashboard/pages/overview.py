"""/: what flows at this moment, what waits, and how each endpoint does."""

from __future__ import annotations

from collections import Counter

from fastapi import Request
from nicegui import ui

from fluxhook.admin.dashboard import words
from fluxhook.admin.dashboard.session.viewer import DashboardContext, Viewer
from fluxhook.admin.dashboard.widgets.charts import BACKLOG, LATENCY, THROUGHPUT, LineChart
from fluxhook.admin.dashboard.widgets.dom import link, tag, text
from fluxhook.admin.dashboard.widgets.endpoint_table import EndpointTable
from fluxhook.admin.dashboard.widgets.frame import card, frame
from fluxhook.admin.dashboard.widgets.tables import Column, LiveTable, Row
from fluxhook.admin.dashboard.widgets.tiles import Tile
from fluxhook.admin.history import Point
from fluxhook.admin.models import ProcessStatus, Status
from fluxhook.stats import share

__all__ = ["register"]


def register(context: DashboardContext) -> None:
    @ui.page("/", response_timeout=30)
    async def overview(request: Request) -> None:
        await _Page(Viewer(context, request)).build()


class _Page:
    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer

    async def build(self) -> None:
        first = await self.viewer.status()
        with frame(self.viewer, "Overview", "/") as self.page:
            text("h1", "Overview", "hidden")
            with tag("dl", "tiles"):
                self.accepted = Tile("Accepted", "/s")
                self.delivered = Tile("Delivered", "/s")
                self.failed = Tile("Failed attempts", "/s")
                self.pending = Tile("Pending")
                self.rate = Tile("Success rate")
                self.dead = Tile("Dead letters", href="/dead-letters")
            with tag("div", "grid two"):
                charts = [LineChart(THROUGHPUT), LineChart(LATENCY)]
            with card("Endpoints") as side:
                self.table = EndpointTable(self.viewer.may_write)
                with side:
                    link("All endpoints", "/endpoints")
            with tag("div", "grid two"):
                charts.append(LineChart(BACKLOG))
                with card("Processes"):
                    self.processes = _processes()
            self.charts = charts

        async def refresh() -> None:
            self._show(await self.viewer.status())

        self._show(first)
        self.page.every(refresh)

    def _show(self, status: Status) -> None:
        self.page.engine(status.running)
        self._show_tiles(status, self.viewer.now())
        points = self.viewer.line()
        for chart in self.charts:
            chart.show(points)
        self.table.show(status.webhooks)
        self.processes.show([_process(one) for one in status.processes])

    def _show_tiles(self, status: Status, now: Point | None) -> None:
        totals = status.totals
        self.accepted.show(words.per_second(now and now.accepted), f"{totals.accepted:,} in all")
        self.delivered.show(words.per_second(now and now.delivered), f"{totals.delivered:,} in all")
        self.failed.show(words.per_second(now and now.failed), f"{totals.failed_attempts:,} in all")
        queued = sum(one.queued for one in status.webhooks)
        self.pending.show(
            words.count(totals.pending), f"{queued:,} queued, {totals.pending - queued:,} stored"
        )
        events = share(totals.delivered, totals.dead + totals.dropped)
        attempts = share(totals.delivered, totals.failed_attempts)
        self.rate.show(words.percent(events), f"of events; attempts {words.percent(attempts)}")
        self.dead.show(
            words.count(totals.dead),
            _commonest(status) if totals.dead else "none",
            bad=totals.dead > 0,
        )


def _commonest(status: Status) -> str:
    """Return of what most of them died; those of removed endpoints are not told apart."""
    by_cause = sum((Counter(one.dead_by_cause) for one in status.webhooks), Counter[str]())
    return "".join(f"most: {cause}" for cause, _ in by_cause.most_common(1)) or "to replay or purge"


def _process(one: ProcessStatus) -> Row:
    is_publisher = one.role == "publisher"
    return Row(
        f"{one.role} {one.name}",
        (
            f"{one.role} {one.name}",
            words.count(one.accepted if is_publisher else one.succeeded),
            words.count(one.refused if is_publisher else one.failed),
        ),
    )


def _processes() -> LiveTable:
    return LiveTable(
        "Processes",
        (
            Column("name", "Process"),
            Column("good", "Accepted / delivered", "num"),
            Column("bad", "Refused / failed", "num"),
        ),
    )

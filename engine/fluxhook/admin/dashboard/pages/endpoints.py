"""/endpoints: all of them, and the way to a new one."""

from __future__ import annotations

from fastapi import Request
from nicegui import ui

from fluxhook.admin.dashboard.session.viewer import DashboardContext, Viewer
from fluxhook.admin.dashboard.widgets.dom import icon, tag, text
from fluxhook.admin.dashboard.widgets.endpoint_table import EndpointTable
from fluxhook.admin.dashboard.widgets.frame import frame

__all__ = ["register"]


def register(context: DashboardContext) -> None:
    @ui.page("/endpoints", response_timeout=30)
    async def endpoints(request: Request) -> None:
        await _endpoints(Viewer(context, request))


async def _endpoints(viewer: Viewer) -> None:
    first = await viewer.status()
    with frame(viewer, "Endpoints", "/endpoints") as page:
        with tag("div", "page-head"):
            text("h1", "Endpoints")
            if viewer.may_write:
                with tag("a", "button primary", href="/endpoints/new"):
                    icon("plus")
                    text("span", "New endpoint")
        with tag("section", "card"):
            table = EndpointTable(viewer.may_write)

    async def refresh() -> None:
        status = await viewer.status()
        page.engine(status.running)
        table.show(status.webhooks)

    page.engine(first.running)
    table.show(first.webhooks)
    page.every(refresh)

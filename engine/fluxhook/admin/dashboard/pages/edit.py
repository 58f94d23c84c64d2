"""/endpoints/{ref}/edit: an endpoint's options in the form that it was created by."""

from __future__ import annotations

from fastapi import Request
from nicegui import ui
from nicegui.element import Element

from fluxhook.admin.dashboard.links import endpoint_path
from fluxhook.admin.dashboard.session.viewer import DashboardContext, Viewer, faults_of
from fluxhook.admin.dashboard.widgets.dom import button, focus, link, tag, text
from fluxhook.admin.dashboard.widgets.endpoint_form import patch_of, show_fields, values_of
from fluxhook.admin.dashboard.widgets.forms import Form
from fluxhook.admin.dashboard.widgets.frame import failure_page, frame
from fluxhook.admin.dashboard.widgets.option_list import OF_FILE
from fluxhook.admin.models import CreatedWebhook, Webhook
from fluxhook.admin.references import by_id
from fluxhook.config.schema import Endpoint
from fluxhook.errors import FluxhookError, UnknownEndpoint

__all__ = ["register"]


def register(context: DashboardContext) -> None:
    @ui.page("/endpoints/{ref}/edit", response_timeout=30)
    async def edit(request: Request, ref: str) -> None:
        viewer = Viewer(context, request)
        if not viewer.may_write:
            reason = "Your token does not have the scope write, so it cannot change an endpoint."
            failure_page(viewer, 403, reason, "/endpoints")
            return
        try:
            webhook = await viewer.ask(viewer.service.webhook, ref)
        except UnknownEndpoint:
            failure_page(viewer, 404, f"There is no endpoint {ref!r:.80}", "/endpoints")
            return
        await _edit(viewer, webhook)


async def _edit(viewer: Viewer, webhook: Webhook) -> None:
    types = [one.type for one in await viewer.ask(viewer.service.event_types)]
    defaults = await viewer.ask(viewer.service.defaults)
    status = await viewer.status()
    with frame(viewer, f"Edit {webhook.name}", "/endpoints") as page:
        page.engine(status.running)
        with tag("div", "crumbs"):
            link(webhook.name, endpoint_path(webhook.id))
        with tag("div", "page-head"):
            text("h1", f"Edit {webhook.name}")
        with tag("section", "card narrow") as place:
            if webhook.source == "file":
                text("p", OF_FILE)
                with tag("div", "buttons"):
                    link("Back to the endpoint", endpoint_path(webhook.id), "button")
            else:
                _form(viewer, webhook, types, defaults, place)


def _form(
    viewer: Viewer, webhook: Webhook, types: list[str], defaults: Endpoint, place: Element
) -> None:
    before = values_of(webhook)

    async def submit(values: dict[str, str]) -> None:
        patch = patch_of(before, values)
        if not patch:
            form.show_faults([("", "Nothing was changed", "")])
            return
        try:
            made = await viewer.change(viewer.service.update, by_id(webhook.id), patch)
        except FluxhookError as error:
            form.show_faults(faults_of(error))
        else:
            place.clear()
            with place:
                _changed(made)

    form = Form(f"Edit {webhook.name}", submit, before)
    with form:
        text("p", "Only what you change is sent; what you empty goes back to its default.", "help")
        show_fields(form, types, defaults, webhook)
        with tag("div", "buttons"):
            button("Save changes", "", "primary", type="submit")
            link("Cancel", endpoint_path(webhook.id), "button")


def _changed(made: CreatedWebhook) -> None:
    with tag("div", "done", role="status"):
        focus(text("h2", f"{made.name} was changed", tabindex="-1"))
        text("p", "The change holds for every event that is emitted from now on.")
    for notice in made.notices:
        text("p", notice, "help")
    with tag("div", "buttons"):
        link("Go to the endpoint", endpoint_path(made.id), "button primary")

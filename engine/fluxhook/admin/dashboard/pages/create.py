"""/endpoints/new: a subscription from a form; its secret is shown this once."""

from __future__ import annotations

from fastapi import Request
from nicegui import ui

from fluxhook.admin.dashboard.links import endpoint_path
from fluxhook.admin.dashboard.session.viewer import DashboardContext, Viewer, faults_of
from fluxhook.admin.dashboard.widgets.dom import button, focus, link, tag, text
from fluxhook.admin.dashboard.widgets.endpoint_form import layer_of, show_fields, ticks_of
from fluxhook.admin.dashboard.widgets.forms import Form
from fluxhook.admin.dashboard.widgets.frame import failure_page, frame
from fluxhook.admin.dashboard.widgets.shown_secret import show_secret
from fluxhook.admin.models import CreatedWebhook
from fluxhook.errors import Conflict, FluxhookError

__all__ = ["register"]


def register(context: DashboardContext) -> None:
    @ui.page("/endpoints/new", response_timeout=30)
    async def create(request: Request) -> None:
        viewer = Viewer(context, request)
        if viewer.may_write:
            await _create(viewer)
        else:
            reason = "Your token does not have the scope write, so it cannot create an endpoint."
            failure_page(viewer, 403, reason, "/endpoints")


async def _create(viewer: Viewer) -> None:
    types = [one.type for one in await viewer.ask(viewer.service.event_types)]
    defaults = await viewer.ask(viewer.service.defaults)
    with frame(viewer, "New endpoint", "/endpoints"):
        with tag("div", "page-head"):
            text("h1", "New endpoint")
        with tag("section", "card narrow") as place:

            async def submit(values: dict[str, str]) -> None:
                layer = layer_of(values, defaults)
                if "secret" not in layer and layer.get("signature", defaults.signature) != "none":
                    layer["generate_secret"] = True
                try:
                    made = await viewer.change(viewer.service.create, layer)
                except Conflict as error:
                    form.show_faults([("name", str(error), "")])
                except FluxhookError as error:
                    form.show_faults(faults_of(error))
                else:
                    place.clear()
                    with place:
                        _created(made)

            form = Form("New endpoint", submit, ticks_of(defaults))
            with form:
                text(
                    "p", "A field that is left empty takes this engine's default, in grey.", "help"
                )
                show_fields(form, types, defaults)
                with tag("div", "buttons"):
                    button("Create endpoint", "", "primary", type="submit")
                    link("Cancel", "/endpoints", "button")


def _created(made: CreatedWebhook) -> None:
    with tag("div", "done", role="status"):
        focus(text("h2", f"{made.name} is ready", tabindex="-1"))
        text("p", "It gets every event of its types that is emitted from now on.")
    for notice in made.notices:
        text("p", notice, "help")
    if made.secret is not None:
        show_secret(made.secret, "Give it to the receiver, so that it can verify our signatures.")
    with tag("div", "buttons"):
        link("Go to the endpoint", endpoint_path(made.id), "button primary")
        link("Create another", "/endpoints/new", "button")

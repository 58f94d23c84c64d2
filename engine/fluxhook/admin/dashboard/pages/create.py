"""/endpoints/new: a subscription from a form; its secret is shown this once."""

from __future__ import annotations

import re
from typing import Any, Final

from fastapi import Request
from nicegui import ui

from fluxhook.admin.dashboard.dom import button, link, tag, text
from fluxhook.admin.dashboard.forms import Form
from fluxhook.admin.dashboard.frame import failure_page, frame
from fluxhook.admin.dashboard.secret import show_secret
from fluxhook.admin.dashboard.viewer import Desk, Viewer, complaint
from fluxhook.admin.models import CreatedWebhook
from fluxhook.errors import ConfigError, Conflict, FluxhookError

__all__ = ["layer_of", "register"]

_PROFILES: Final = (
    ("fluxgate", "FluxGate: X-FluxGate-Signature"),
    ("standard", "Standard Webhooks: webhook-signature"),
    ("stripe", "Stripe: Stripe-Signature"),
    ("github", "GitHub: X-Hub-Signature-256"),
    ("none", "None: requests are not signed"),
)
_ENVELOPES: Final = (
    ("native", "Native: as the gateway or broker documents it"),
    ("standard", "Standard Webhooks"),
    ("cloudevents", "CloudEvents 1.0"),
)
_LISTS: Final = ("events", "topic_filters")
_NUMBERS: Final = ("concurrency", "retry.max_attempts")
_SEPARATOR: Final = re.compile(r"[\s,]+")


def register(desk: Desk) -> None:
    @ui.page("/endpoints/new", response_timeout=30)
    async def create(request: Request) -> None:
        viewer = Viewer(desk, request)
        if viewer.may_write:
            await _create(viewer)
        else:
            reason = "Your token does not have the scope write, so it cannot create an endpoint."
            failure_page(viewer, 403, reason, "/endpoints")


async def _create(viewer: Viewer) -> None:
    types = [one.type for one in await viewer.ask(viewer.service.event_types)]
    with frame(viewer, "New endpoint", "/endpoints"):
        with tag("div", "page-head"):
            text("h1", "New endpoint")
        with tag("section", "card narrow") as place:

            async def submit(values: dict[str, str]) -> None:
                try:
                    made = await viewer.change(viewer.service.create, layer_of(values))
                except ConfigError as error:
                    form.show_faults(error.problems)
                except Conflict as error:
                    form.show_faults([("name", str(error), "")])
                except FluxhookError as error:
                    form.show_faults([("", complaint(error), "")])
                else:
                    place.clear()
                    with place:
                        _created(made)

            form = Form("New endpoint", submit)
            with form:
                _fields(form, types)


def _fields(form: Form, types: list[str]) -> None:
    form.field(
        "url",
        "URL",
        type="url",
        placeholder="https://hooks.example.com/fluxgate",
        required=True,
        autofocus=True,
    )
    form.field(
        "events",
        "Events",
        placeholder="route.error, service.5xx",
        required=True,
        hint="Types or namespaces such as route.*, with commas between them; * for all.",
        list="event-types",
    )
    with tag("datalist", id="event-types"):
        for name in ["*", *types]:
            tag("option", value=name)
    form.field("name", "Name", placeholder="by default the URL's host")
    form.choice("signature", "Signature", _PROFILES)
    form.field(
        "secret",
        "Secret",
        type="password",
        hint="Leave it empty to have one generated; it is shown once, after this.",
    )
    with form.more("Delivery, retries and filters"):
        form.field("timeout", "Timeout", placeholder="3s")
        form.field(
            "retry.schedule",
            "Retry schedule",
            placeholder="15s, 2m, 10m, 1h",
            hint="Delays after the first failure.",
        )
        form.field("retry.max_attempts", "Attempts at most", inputmode="numeric", placeholder="5")
        form.field(
            "concurrency", "Requests at a time, at most", inputmode="numeric", placeholder="64"
        )
        form.field(
            "threshold",
            "Threshold",
            placeholder="50/s",
            hint="Forward only what exceeds this rate.",
        )
        form.field("topic_filters", "Topic filters", placeholder="sensors/+/temperature")
        form.field(
            "where",
            "Conditions on the data",
            kind="textarea",
            rows=2,
            placeholder="status_code >= 500",
            hint="One a line; all of them must hold.",
        )
        form.choice("envelope", "Envelope", _ENVELOPES)
        form.check(
            "record", "Keep a record of every delivery, not only of those that failed at first"
        )
        form.check("ordered", "Deliver one at a time, in order")
    with tag("div", "buttons"):
        button("Create endpoint", "", "primary", type="submit")
        link("Cancel", "/endpoints", "button")


def _created(made: CreatedWebhook) -> None:
    with tag("div", "done", role="status"):
        text("h2", f"{made.name} is ready", tabindex="-1")
        text("p", "It gets every event of its types that is emitted from now on.")
    for notice in made.notices:
        text("p", notice, "help")
    if made.secret is not None:
        show_secret(made.secret, "Give it to the receiver, so that it can verify our signatures.")
    with tag("div", "buttons"):
        link("Go to the endpoint", f"/endpoints/{made.id}", "button primary")
        link("Create another", "/endpoints/new", "button")


def layer_of(values: dict[str, str]) -> dict[str, Any]:
    """An endpoint's options as the YAML file writes them, from the fields of the form.

    Numbers stay text where they are none: the check says it better than we could here.
    """
    layer: dict[str, Any] = {"url": values.get("url", ""), "events": []}
    for name, value in values.items():
        if not value or name == "url":
            continue
        if name in _LISTS:
            layer[name] = _split(value)
        elif name == "where":
            layer[name] = [line.strip() for line in value.splitlines() if line.strip()]
        elif name == "retry.schedule":
            layer.setdefault("retry", {})["schedule"] = _split(value)
        elif name == "record":
            layer[name] = "all"
        elif name == "ordered":
            layer[name] = True
        elif name in _NUMBERS:
            number: int | str = int(value) if value.isdecimal() and value.isascii() else value
            if name == "concurrency":
                layer[name] = number
            else:
                layer.setdefault("retry", {})["max_attempts"] = number
        else:
            layer[name] = value
    if "secret" not in layer and layer.get("signature") != "none":
        layer["generate_secret"] = True
    return layer


def _split(value: str) -> list[str]:
    return [part for part in _SEPARATOR.split(value) if part]

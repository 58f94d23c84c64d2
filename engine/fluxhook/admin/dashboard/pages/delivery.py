"""/deliveries/{id}: one delivery: what was sent, every attempt and its timings, what was answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec
from fastapi import Request
from nicegui import ui
from nicegui.element import Element

from fluxhook.admin.dashboard import words
from fluxhook.admin.dashboard.links import endpoint_path
from fluxhook.admin.dashboard.session.viewer import DashboardContext, Viewer
from fluxhook.admin.dashboard.widgets.dialogs import confirm
from fluxhook.admin.dashboard.widgets.dom import button, link, state_pill, tag, text, time
from fluxhook.admin.dashboard.widgets.frame import card, failure_page, frame
from fluxhook.admin.dashboard.widgets.waterfall import show_waterfall
from fluxhook.admin.models import Attempt, DeliveryDetail, SentRequest
from fluxhook.admin.problem_details import RequestError
from fluxhook.events.nesting import bounded

__all__ = ["register"]

T = TypeVar("T")

#: characters of a body that are shown; the rest is a matter for the API
_BODY: Final = 20_000


def register(context: DashboardContext) -> None:
    @ui.page("/deliveries/{id}", response_timeout=30)
    async def delivery(request: Request, id: str) -> None:
        viewer = Viewer(context, request)
        try:
            detail = await viewer.ask(viewer.service.delivery, id)
        except RequestError:
            failure_page(
                viewer, 404, f"There is no delivery {id!r:.80}, or no longer", "/deliveries"
            )
            return
        await _delivery(viewer, detail)


async def _delivery(viewer: Viewer, detail: DeliveryDetail) -> None:
    status = await viewer.status()
    with frame(viewer, detail.event_id, "/deliveries") as page:
        page.engine(status.running)
        with tag("div", "crumbs"):
            link("Deliveries", "/deliveries")
        with tag("div", "page-head"):
            with tag("div", "title"):
                with tag("h1"):
                    text("span", detail.type)
                    pill = state_pill(detail.state)
                text("p", detail.event_id, "mono quiet break")
            with tag("div", "buttons") as buttons:
                pass
        facts, attempts, sent = (tag("div", "stack") for _ in range(3))

    shown: dict[Element, object] = {}

    async def refresh() -> None:
        show(await viewer.ask(viewer.service.delivery, detail.id))

    def show(found: DeliveryDetail) -> None:
        pill.props["state"] = found.state
        for state, control in controls.items():
            control.set_visibility(found.state == state)
        fill(facts, msgspec.structs.replace(found, history=[], request=None), _facts)
        fill(attempts, (found.history, found.cause), lambda it: _attempts(*it))
        fill(sent, found.request, _request)

    def fill(place: Element, content: T, draw: Callable[[T], None]) -> None:
        """Draw a part anew where it has changed; the others stay as they are."""
        if place not in shown or shown[place] != content:
            shown[place] = content
            place.clear()
            with place:
                draw(content)

    with buttons:
        controls = _controls(viewer, detail.id, refresh) if viewer.may_write else {}
    show(detail)
    page.every(refresh)


def _controls(
    viewer: Viewer, id: str, refresh: Callable[[], Awaitable[None]]
) -> dict[str, Element]:
    """Add what can be done with a delivery: a button for each state in which something can."""

    async def replay() -> None:
        await viewer.attempt("It is delivered again.", viewer.service.replay_one, id)
        await refresh()

    async def retry() -> None:
        if await confirm(
            "Retry this delivery now?",
            "The attempt counts as ever: where it fails, the next one comes in its time, or it was the "
            "last.",
            "Retry now",
        ):
            await viewer.attempt("It is attempted now.", viewer.service.retry_delivery, id)
            await refresh()

    async def resend() -> None:
        if await confirm(
            "Deliver this event once more?",
            "A new delivery takes it to the receiver, with the same event id and body.",
            "Resend",
        ):
            sent = await viewer.attempt("", viewer.service.resend, id)
            if sent is not None:
                ui.navigate.to(f"/deliveries/{sent.delivery_id}")

    return {
        "dead": button("Replay", "replay", "primary").on("click", replay),
        "waiting": button("Retry now", "replay", "primary").on("click", retry),
        "delivered": button("Resend", "send", "primary").on("click", resend),
    }


def _facts(detail: DeliveryDetail) -> None:
    with tag("section", "card"), tag("dl", "pairs across"):
        text("dt", "Endpoint")
        with tag("dd"):
            link(detail.endpoint, endpoint_path(detail.endpoint_id))
        for name, at in (
            ("Accepted", detail.accepted_at),
            ("First failed", detail.first_failed_at),
            ("Next attempt", detail.due_at),
            ("Ended", detail.ended_at),
        ):
            if at is not None:
                text("dt", name)
                with tag("dd"):
                    time(at)
        text("dt", "Attempts")
        text("dd", words.count(detail.attempts))
        if detail.topic is not None:
            text("dt", "Topic")
            text("dd", detail.topic, "mono")
        if detail.order_key is not None:
            text("dt", "Order key")
            text("dd", detail.order_key, "mono")
        if detail.traceparent is not None:
            text("dt", "Trace")
            with tag("dd", "mono break"):
                text("span", detail.traceparent)
                if detail.tracestate is not None:
                    text("span", f" {detail.tracestate}", "quiet")
        text("dt", "Delivery id")
        text("dd", detail.id, "mono break")
        if detail.cause and detail.cause != "delivered":
            text("dt", "Why")
            with tag("dd", "span"):
                text("span", words.cause_sentence(detail.cause))
                if detail.error:
                    text("span", f" {detail.error}", "quiet break")


def _attempts(history: list[Attempt], cause: str) -> None:
    with card("Attempts"):
        if not history:
            with tag("div", "empty"):
                text("p", "No attempt yet", "title")
                text("p", words.cause_sentence(cause) if cause else "It is on its way.")
        longest = max((one.timings.total_ms for one in history), default=0.0)
        for one in reversed(history):
            _attempt(one, longest)


def _attempt(one: Attempt, longest_ms: float) -> None:
    with tag("article", "attempt"):
        with tag("div", "attempt-head"):
            good = one.outcome == "delivered"
            state_pill("delivered" if good else "failed", f"Attempt {one.n}")
            text("strong", f"{one.status}" if one.status else "no answer")
            text("span", "" if good else one.outcome, "cause")
            text("span", words.milliseconds(one.timings.total_ms), "figure")
            time(one.started_at)
            text("span", f"worker {one.worker}", "quiet")
        if one.error:
            text("p", one.error, "quiet break")
        if one.retry_after_s is not None:
            text("p", f"The receiver asked to wait {one.retry_after_s} s.", "quiet")
        show_waterfall(one.timings, longest_ms)
        if one.answer:
            with tag("details", "answer", open=True):
                text("summary", "First bytes of the answer")
                text("pre", one.answer, tabindex="0")


def _request(request: SentRequest | None) -> None:
    if request is None:
        return
    with card("Request, as the present configuration makes it"):
        with tag("p", "mono break"):
            text("strong", f"{request.method} ")
            text("span", request.url)
        if request.headers:
            with tag("dl", "pairs mono headers"):
                for name, value in request.headers.items():
                    text("dt", name)
                    text("dd", value, "break")
        body = _pretty(request)
        cut = len(body) > _BODY
        text(
            "pre", body[:_BODY] + ("\n..." if cut else ""), "body", tabindex="0", aria_label="Body"
        )
        if request.encoding == "base64":
            text("p", "The body is not text; this is its base64.", "help")


def _format(body: bytes) -> str:
    return msgspec.json.format(body, indent=2).decode()


def _pretty(request: SentRequest) -> str:
    if request.encoding == "utf-8":
        try:
            return bounded(_format)(request.body.encode())
        except (msgspec.DecodeError, UnicodeError):
            pass
    return request.body

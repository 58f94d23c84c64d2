"""/lists: skipped endpoints, signature verification failures, payload size rejections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from fastapi import Request
from nicegui import ui

from fluxhook.admin.dashboard import words
from fluxhook.admin.dashboard.links import endpoint_path
from fluxhook.admin.dashboard.session.viewer import DashboardContext, Viewer
from fluxhook.admin.dashboard.widgets import tables
from fluxhook.admin.dashboard.widgets.dom import tag, text
from fluxhook.admin.dashboard.widgets.frame import card, frame
from fluxhook.admin.dashboard.widgets.tables import Column, LiveTable, Row
from fluxhook.admin.models import AttemptRecord, Delivery, WebhookStatus
from fluxhook.store.queries import DeliveryFilter

__all__ = ["register"]

_ROWS: Final = 8


class _Kind(NamedTuple):
    title: str
    what: str
    none: str
    figure: str
    count: Callable[[WebhookStatus], int]


_SKIPPED: Final = _Kind(
    "Skipped endpoints",
    "Their breaker is or was open: deliveries were held back instead of attempted.",
    "No endpoint was skipped",
    "Skipped",
    lambda one: one.skipped,
)
_SIGNATURES: Final = _Kind(
    "Signature verification failures",
    "The receiver answered 401 or 403: its secret may be another than ours.",
    "No receiver refused a signature",
    "Refused",
    lambda one: one.signature_rejections,
)
_SIZES: Final = _Kind(
    "Payload size rejections",
    "The receiver answered 413, or the event was over the endpoint's max_payload.",
    "No event was too large",
    "Too large",
    lambda one: one.size_rejections,
)


def register(context: DashboardContext) -> None:
    @ui.page("/lists", response_timeout=30)
    async def lists(request: Request) -> None:
        await _lists(Viewer(context, request))


class _Found(NamedTuple):
    webhooks: list[WebhookStatus]
    running: bool
    skipped: list[Delivery]
    refused: list[AttemptRecord]
    too_large: list[AttemptRecord]
    over_limit: list[Delivery]


async def _read(viewer: Viewer) -> _Found:
    async def held_back(cause: str) -> list[Delivery]:
        which = DeliveryFilter(cause=cause)
        return (await viewer.ask(viewer.service.deliveries, which, limit=_ROWS)).items

    async def refused(cause: str) -> list[AttemptRecord]:
        which = DeliveryFilter(cause=cause)
        return (await viewer.ask(viewer.service.attempts, which, limit=_ROWS)).items

    status = await viewer.status()
    return _Found(
        status.webhooks,
        status.running,
        await held_back("breaker_open"),
        await refused("unauthorized"),
        await refused("content_too_large"),
        await held_back("payload_too_large"),
    )


async def _lists(viewer: Viewer) -> None:
    first = await _read(viewer)
    with frame(viewer, "Problems", "/lists") as page:
        with tag("div", "page-head"):
            text("h1", "Problems")
        sections = [_Section(kind) for kind in (_SKIPPED, _SIGNATURES, _SIZES)]

    def show(found: _Found) -> None:
        page.engine(found.running)
        skipped, signatures, sizes = sections
        skipped.show(found.webhooks, [_held_back(one) for one in found.skipped])
        signatures.show(found.webhooks, [_attempt(one) for one in found.refused])
        sizes.show(
            found.webhooks,
            [*map(_attempt, found.too_large), *map(_held_back, found.over_limit)],
        )

    async def refresh() -> None:
        show(await _read(viewer))

    show(first)
    page.every(refresh)


class _Section:
    """One list: which endpoints, how often, and the latest events."""

    def __init__(self, kind: _Kind) -> None:
        self._kind = kind
        with card(kind.title):
            text("p", kind.what, "help")
            self._endpoints = LiveTable(
                f"{kind.title} by endpoint",
                (
                    Column("endpoint", "Endpoint", "wide"),
                    Column("state", "State"),
                    Column("n", kind.figure, "num"),
                    Column("rate", "Success"),
                ),
            )
            self._events = LiveTable(
                f"{kind.title}, the latest events",
                (
                    Column("event", "Latest events", "wide"),
                    Column("id", "Event id"),
                    Column("endpoint", "Endpoint"),
                    Column("status", "Status", "num"),
                    Column("error", "Error"),
                    Column("at", "When", "num"),
                ),
            )
            with tag("div", "empty") as self._empty:
                text("p", kind.none, "title")

    def show(self, webhooks: list[WebhookStatus], events: list[Row]) -> None:
        of_kind = [one for one in webhooks if self._kind.count(one)]
        of_kind.sort(key=self._kind.count, reverse=True)
        self._endpoints.set_visibility(bool(of_kind))
        self._events.set_visibility(bool(events))
        self._empty.set_visibility(not of_kind and not events)
        self._endpoints.show(
            [
                Row(
                    one.id,
                    (
                        tables.cell(one.name, href=endpoint_path(one.id), sub=one.url),
                        tables.state(one.state),
                        words.count(self._kind.count(one)),
                        tables.success(one),
                    ),
                )
                for one in of_kind
            ]
        )
        self._events.show(events)


def _attempt(one: AttemptRecord) -> Row:
    return Row(
        f"{one.delivery_id}/{one.n}/{one.started_at}",
        (
            tables.cell(one.type, href=f"/deliveries/{one.delivery_id}"),
            tables.cell(one.event_id, classes="id"),
            tables.endpoint(one.endpoint, one.endpoint_id),
            str(one.status) if one.status else None,
            tables.error(one.outcome, one.error),
            tables.time(one.started_at),
        ),
    )


def _held_back(one: Delivery) -> Row:
    return Row(
        one.id,
        (
            tables.cell(one.type, href=f"/deliveries/{one.id}"),
            tables.cell(one.event_id, classes="id"),
            tables.endpoint(one.endpoint, one.endpoint_id),
            None,
            tables.error(one.cause, one.error),
            tables.time(one.ended_at or one.accepted_at),
        ),
    )

"""The table of endpoints: state, what succeeds, what died, what waits, and what went wrong last."""

from __future__ import annotations

from collections.abc import Sequence

from fluxhook.admin.dashboard import words
from fluxhook.admin.dashboard.links import endpoint_path
from fluxhook.admin.dashboard.widgets import tables
from fluxhook.admin.dashboard.widgets.dom import link, tag, text
from fluxhook.admin.dashboard.widgets.tables import Column, LiveTable, Row
from fluxhook.admin.models import WebhookStatus

__all__ = ["EndpointTable"]

_COLUMNS = (
    Column("name", "Endpoint", "wide"),
    Column("state", "State"),
    Column("rate", "Success"),
    Column("dead", "Dead", "num"),
    Column("p95", "p95", "num"),
    Column("pending", "Pending", "num"),
    Column("oldest", "Oldest", "num"),
    Column("retry", "Next retry", "num"),
    Column("error", "Last error"),
)


class EndpointTable:
    """All endpoints; where there are none, the way to the first."""

    def __init__(self, may_write: bool) -> None:
        self._table = LiveTable("Endpoints", _COLUMNS)
        with tag("div", "empty") as self._empty:
            text("p", "No endpoints yet", "title")
            if may_write:
                text("p", "An endpoint is a URL and the types of events that it gets.")
                link("Create the first one", "/endpoints/new", "button primary")
            else:
                text(
                    "p",
                    "Endpoints stand in the configuration, or are created by those who may write.",
                )

    def show(self, webhooks: Sequence[WebhookStatus]) -> None:
        self._table.set_visibility(bool(webhooks))
        self._empty.set_visibility(not webhooks)
        self._table.show([_row(one) for one in webhooks])


def _row(one: WebhookStatus) -> Row:
    last = one.last_error
    return Row(
        one.id,
        (
            tables.cell(one.name, href=endpoint_path(one.id), sub=one.url),
            tables.state(one.state),
            tables.success(one),
            tables.dead(one),
            words.milliseconds(one.latency_ms["p95"]) if one.latency_ms else None,
            words.count(one.pending),
            tables.time(one.oldest_pending_at),
            tables.time(one.next_retry_at, due=True),
            tables.error("misconfigured", one.misconfigured_reason)
            if one.misconfigured_reason
            else tables.error(last.cause, last.error, last.at)
            if last
            else None,
        ),
    )

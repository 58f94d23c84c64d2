"""The table of the audit trail: when, what happened to which event, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from fluxhook.admin.dashboard import words
from fluxhook.admin.dashboard.known import Known
from fluxhook.admin.dashboard.widgets import tables
from fluxhook.admin.dashboard.widgets.dom import tag, text
from fluxhook.admin.dashboard.widgets.tables import Column, LiveTable, Row
from fluxhook.store.audit import AuditEntry

__all__ = ["AuditTable"]

_COLUMNS = (
    Column("at", "When"),
    Column("action", "What happened"),
    Column("event", "Event"),
    Column("id", "Event id"),
    Column("endpoint", "Endpoint"),
    Column("accepted", "Accepted", "num"),
    Column("ended", "Given up", "num"),
    Column("why", "Why"),
)


class AuditTable:
    """Entries, or what to say where there are none."""

    def __init__(self, none: str, advice: str = "") -> None:
        self._table = LiveTable("Audit trail", _COLUMNS)
        with tag("div", "empty") as self._empty:
            text("p", none, "title")
            if advice:
                text("p", advice)

    def show(
        self,
        entries: Sequence[AuditEntry],
        endpoints: Mapping[str, str] | None = None,
        known: Mapping[str, Known] | None = None,
    ) -> None:
        """Show entries; `endpoints` are the ids of those that there are, by name; `known` the events
        that the store still has."""
        self._table.set_visibility(bool(entries))
        self._empty.set_visibility(not entries)
        seen: Counter[AuditEntry] = Counter()
        rows = []
        for one in entries:
            seen[one] += 1  # an entry may stand twice
            key = f"{one.at}/{one.event_id}/{one.endpoint}/{seen[one]}"
            rows.append(
                _row(key, one, (endpoints or {}).get(one.endpoint), (known or {}).get(one.event_id))
            )
        self._table.show(rows)


def _row(key: str, one: AuditEntry, endpoint_id: str | None, known: Known | None) -> Row:
    tries = f"after {one.attempts:,} attempt{'s' * (one.attempts != 1)}"
    return Row(
        key,
        (
            tables.time(one.at, dated=True),
            tables.cell(
                words.action_sentence(one.action),
                sub=tries if one.attempts else "without an attempt",
            ),
            one.type,
            tables.cell(one.event_id, href=_link(one.event_id, known), classes="id"),
            tables.endpoint(one.endpoint, endpoint_id),
            tables.time(one.accepted_at),
            tables.time(one.ended_at),
            tables.error(one.cause, one.error),
        ),
    )


def _link(event_id: str, known: Known | None) -> str | None:
    """Return the link to the event's one delivery, or to all of them."""
    if known is None:
        return None
    if known.deliveries == 1:
        return f"/deliveries/{known.newest}"
    return f"/deliveries?event_id={quote(event_id, safe='')}"

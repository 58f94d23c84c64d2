"""The table of changes: when, who, by what way, and what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from fluxhook.admin.dashboard import words
from fluxhook.admin.dashboard.links import endpoint_path
from fluxhook.admin.dashboard.widgets import tables
from fluxhook.admin.dashboard.widgets.dom import tag, text
from fluxhook.admin.dashboard.widgets.tables import Column, LiveTable, Row
from fluxhook.admin.trails import said_of
from fluxhook.store.audit import ChangeEntry

__all__ = ["ChangeTable"]

_COLUMNS: Final = (
    Column("at", "When"),
    Column("actor", "Who", "words"),
    Column("action", "What happened", "words"),
    Column("target", "To what"),
    Column("what", "What changed", "wide"),
)


class ChangeTable:
    """Entries, or what to say where there are none."""

    def __init__(self, none: str) -> None:
        self._table = LiveTable("Changes", _COLUMNS)
        with tag("div", "empty") as self._empty:
            text("p", none, "title")

    def show(self, entries: Sequence[ChangeEntry], endpoints: Mapping[str, str]) -> None:
        """Show entries; `endpoints` are the ids of those that there are, by name."""
        self._table.set_visibility(bool(entries))
        self._empty.set_visibility(not entries)
        self._table.show([_row(one, endpoints) for one in entries])


def _row(one: ChangeEntry, endpoints: Mapping[str, str]) -> Row:
    href = None
    if one.target.startswith("dlv_"):
        href = f"/deliveries/{one.target}"
    elif one.target in endpoints:
        href = endpoint_path(endpoints[one.target])
    return Row(
        str(one.n),
        (
            tables.time(one.at, dated=True),
            tables.cell(one.actor, sub=words.way(one.via)),
            tables.cell(words.change_sentence(one.action), sub=one.action),
            tables.cell(one.target, href=href) if one.target else None,
            tables.cell(said_of(one), classes="mono break"),
        ),
    )

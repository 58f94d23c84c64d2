"""The table of deliveries, wherever some are listed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fluxhook.admin.dashboard.widgets import tables
from fluxhook.admin.dashboard.widgets.dom import tag, text
from fluxhook.admin.dashboard.widgets.tables import Column, LiveTable, Row
from fluxhook.admin.models import Delivery

__all__ = ["DeliveryTable"]


class DeliveryTable:
    """Deliveries, or what to say and to do where there are none."""

    def __init__(
        self,
        none: str,
        advice: str = "",
        *,
        endpoint: bool = True,
        ended: bool = False,
        on_replay: Callable[[str], Any] | None = None,
        on_selected: Callable[[list[str]], Any] | None = None,
    ) -> None:
        """Make the table; `endpoint`: whose they are is shown; `ended`: when they ended, instead of
        what is due."""
        self._endpoint = endpoint
        self._ended = ended
        self._replay = on_replay is not None
        columns = [Column("event", "Event", "wide"), Column("id", "Event id")]
        if endpoint:
            columns.append(Column("endpoint", "Endpoint"))
        if not ended:
            columns.append(Column("state", "State"))
        columns += [
            Column("attempts", "Attempts", "num"),
            Column("accepted", "Accepted", "num"),
            Column("when", "Died" if ended else "Next attempt", "num"),
            Column("error", "Why"),
        ]
        if on_replay is not None:
            columns.append(Column("replay", "", "act"))
        self.table = LiveTable("Deliveries", columns, on_act=on_replay, on_selected=on_selected)
        with tag("div", "empty") as self._empty:
            text("p", none, "title")
            if advice:
                text("p", advice)

    def show(self, deliveries: Sequence[Delivery], *, anew: bool = False) -> None:
        self.table.set_visibility(bool(deliveries))
        self._empty.set_visibility(not deliveries)
        self.table.show([self._row(one) for one in deliveries], anew=anew)

    def _row(self, one: Delivery) -> Row:
        cells = [
            tables.cell(one.type, href=f"/deliveries/{one.id}"),
            tables.cell(one.event_id, classes="id"),
        ]
        if self._endpoint:
            cells.append(tables.endpoint(one.endpoint, one.endpoint_id))
        if not self._ended:
            cells.append(tables.state(one.state))
        cells += [
            f"{one.attempts:,}",
            tables.time(one.accepted_at),
            tables.time(one.ended_at) if self._ended else tables.time(one.due_at, due=True),
            tables.error(one.cause, one.error) if one.cause != "delivered" else None,
        ]
        if self._replay:
            cells.append(tables.action(f"Replay {one.event_id}", "Replay", "replay"))
        return Row(one.id, cells, one.event_id)

"""The table of live_table.js, and what its cells may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from fluxhook.admin.dashboard import words
from fluxhook.admin.dashboard.links import endpoint_path
from fluxhook.admin.dashboard.widgets.dom import root_path
from fluxhook.admin.models import WebhookStatus
from fluxhook.admin.references import by_id

__all__ = [
    "Cell",
    "Column",
    "LiveTable",
    "Row",
    "action",
    "cell",
    "dead",
    "endpoint",
    "error",
    "state",
    "success",
    "time",
]

#: a text, or a dict that one of the functions below makes
Cell = str | dict[str, Any] | None


class Column(NamedTuple):
    """`classes`: num, mono, wide (it takes the room that is left), words (none is broken), quiet."""

    key: str
    label: str
    classes: str = ""


class Row(NamedTuple):
    """`key` is the row's for as long as it is shown; `name` names it where it can be chosen."""

    key: str
    cells: Sequence[Cell]
    name: str = ""


class LiveTable(Element, component="live_table.js"):
    """Rows that change in place; while somebody is at work in it, none comes, goes or moves.

    On a narrow screen each row is a card.
    """

    def __init__(
        self,
        caption: str,
        columns: Sequence[Column],
        *,
        on_act: Callable[[str], Any] | None = None,
        on_selected: Callable[[list[str]], Any] | None = None,
    ) -> None:
        """Make the table; `on_act` gets the key of the row whose button was pressed, `on_selected`
        the keys of those that are chosen."""
        super().__init__()
        self.selected: list[str] = []
        self._on_selected = on_selected
        self.props["caption"] = caption
        self.props["columns"] = [column._asdict() for column in columns]
        self.props["rows"] = []
        self.props["anew"] = 0
        self.props["root"] = root_path()
        self.props["selectable"] = on_selected is not None
        if on_act is not None:
            acting = on_act
            self.on("act", lambda event: acting(str(event.args)))
        if on_selected is not None:
            self.on("selected", self._choose)

    def show(self, rows: Sequence[Row], *, anew: bool = False) -> None:
        """Show rows; `anew`: also while somebody is at work there, who has asked for what changed."""
        shown = [row._asdict() for row in rows]
        if shown != self.props["rows"]:
            self.props["rows"] = shown
        if anew:
            self.props["anew"] += 1

    def _choose(self, event: GenericEventArguments) -> None:
        self.selected = [str(key) for key in event.args]
        if self._on_selected is not None:
            self._on_selected(self.selected)


def cell(
    content: str,
    *,
    href: str | None = None,
    sub: str | None = None,
    title: str | None = None,
    classes: str = "",
) -> Cell:
    """Return a text that may be a link, with a quieter line below it."""
    return {
        "kind": "text",
        "text": content,
        "href": href,
        "sub": sub,
        "title": title,
        "classes": classes,
    }


def endpoint(name: str, id: str | None) -> Cell:
    """Return an endpoint's name, two lines of it at most; it leads to the endpoint if there still is
    one."""
    href = endpoint_path(id) if id else None
    return cell(name, href=href, title=name, classes="clamp")


def time(at: str | None, *, due: bool = False, dated: bool = False) -> Cell:
    """Return a time. `due`: once it has come, it is said to be due, not how long ago it was.
    `dated`: the date itself, and how long ago as its title."""
    return {"kind": "time", "at": at, "due": due, "dated": dated} if at else None


def state(name: str, label: str = "") -> Cell:
    return {"kind": "state", "state": name, "label": label}


def success(one: WebhookStatus) -> Cell:
    """Return the share of the events that were delivered as a bar and a figure, and below it that of
    the attempts that succeeded."""
    events, attempts = one.event_success_rate, one.success_rate
    if events is None and attempts is None:
        return None
    return {
        "kind": "share",
        "share": attempts if events is None else events,
        "text": f"events {words.percent(events)}",
        "sub": f"attempts {words.percent(attempts)}",
    }


def dead(one: WebhookStatus) -> Cell:
    """Return how many dead letters an endpoint has, and below that of what most of them died, and how
    many events a policy dropped."""
    dropped = sum(one.dropped.values())
    if not one.dead and not dropped:
        return words.count(0)
    below, title = [one.dead_cause] * bool(one.dead), [words.causes(one.dead_by_cause)]
    if dropped:
        below.append(f"{words.count(dropped)} dropped")
        title.append(f"Dropped: {words.causes(one.dropped)}")
    return cell(
        words.count(one.dead),
        href=f"/dead-letters?endpoint={by_id(one.id)}" if one.dead else None,
        sub=", ".join(below),
        title="\n".join(filter(None, title)),
        classes="bad" if one.dead else "",
    )


def error(cause: str, detail: str = "", at: str | None = None) -> Cell:
    """Return a cause, in a word, with its sentence and the error itself as the title."""
    if not cause:
        return None
    title = words.cause_sentence(cause) + (f"\n{detail}" if detail else "")
    return {
        "kind": "error",
        "text": cause,
        "title": title,
        "at": at,
        "sub": detail,
        "held": cause in words.HELD_BACK,
    }


def action(label: str, content: str, icon: str) -> Cell:
    """Return a button; `label` says all of it to those who do not see the row."""
    return {"kind": "action", "id": label, "label": label, "text": content, "icon": icon}

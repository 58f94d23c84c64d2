"""A figure with its name, and a quieter line below."""

from __future__ import annotations

from fluxhook.admin.dashboard.widgets.dom import link, tag, text

__all__ = ["Tile"]


class Tile:
    """An entry of a `dl`; with `href` its name leads there."""

    def __init__(self, name: str, unit: str = "", *, href: str | None = None) -> None:
        with tag("div", "tile"):
            with tag("dt"):
                if href is None:
                    text("span", name)
                else:
                    link(name, href)
            with tag("dd") as self._value:
                self._figure = text("span", "-", "figure")
                if unit:
                    text("span", unit, "unit")
            self._note = text("dd", "", "note-line")

    def show(self, figure: str, note: str = "", *, bad: bool = False) -> None:
        self._figure.say(figure)
        self._note.say(note)
        if bad != ("bad" in self._value.classes):
            self._value.classes(**({"add": "bad"} if bad else {"remove": "bad"}))

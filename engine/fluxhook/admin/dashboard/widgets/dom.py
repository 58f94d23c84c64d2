"""HTML elements as NiceGUI has them, with the right tag and plain attributes."""

from __future__ import annotations

from typing import Any, Final

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

__all__ = [
    "Text",
    "button",
    "enable",
    "focus",
    "icon",
    "link",
    "root_path",
    "state_pill",
    "tag",
    "text",
    "time",
]

#: attributes that are paths of ours, where they begin with a slash
_PATHS: Final = ("href", "src", "action")


class Text(TextElement):
    """An element that has a text, which may change."""

    def __init__(self, kind: str, content: str, classes: str = "", /, **attributes: Any) -> None:
        super().__init__(tag=kind, text=content)
        _dress(self, classes, attributes)

    def say(self, content: str) -> None:
        if self.text != content:
            self.text = content


def tag(kind: str, classes: str = "", /, **attributes: Any) -> Element:
    """Make an element; attributes are written with _ for -, those that are None are left out."""
    element = ui.element(kind)
    _dress(element, classes, attributes)
    return element


def text(kind: str, content: str, classes: str = "", /, **attributes: Any) -> Text:
    return Text(kind, content, classes, **attributes)


def link(content: str, href: str, classes: str = "", **attributes: Any) -> Text:
    return Text("a", content, classes, href=href, **attributes)


def icon(name: str) -> Element:
    """Show a picture of the sprite in static/dashboard.js, for the eye alone."""
    return tag("fh-icon", name=name)


def button(content: str, icon_name: str = "", classes: str = "", **attributes: Any) -> Element:
    """Make a button; without `type`, it submits nothing."""
    attributes.setdefault("type", "button")
    made = tag("button", f"button {classes}", **attributes)
    with made:
        if icon_name:
            icon(icon_name)
        text("span", content)
    return made


def enable(control: Element, enabled: bool) -> None:
    """Let a button be pressed or not; it keeps its place."""
    control.props.set_optional("disabled", None if enabled else True)


def time(at: str, *, dated: bool = False) -> Element:
    """Show how long ago, or until then, kept up to date by the browser; the date itself is its
    title. `dated`: the other way round."""
    return tag("fh-time", at=at, dated=dated or None)


def state_pill(state: str, label: str = "") -> Element:
    """Show a state by colour, picture and word."""
    return tag("fh-state", state=state, label=label or None)


def focus(element: Element) -> None:
    """Put the focus there, once the browser has the element."""
    element.client.run_javascript(
        f"requestAnimationFrame(() => document.getElementById('{element.html_id}')?.focus())"
    )


def _dress(element: Element, classes: str, attributes: dict[str, Any]) -> None:
    if classes:
        element.classes(classes)
    for name, value in attributes.items():
        if name in _PATHS and value is not None and value.startswith("/"):
            value = root_path() + value
        if value is not None:
            element.props[name.rstrip("_").replace("_", "-")] = value


def root_path() -> str:
    """Return what the browser's paths begin with, where a proxy shows the dashboard below a path."""
    root: str = ui.context.client.request.scope.get("root_path", "")
    return root

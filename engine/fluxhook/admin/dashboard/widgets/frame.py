"""The frame of every page: its head, the way to the others, the engine's state, and the clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from nicegui import ui
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from fluxhook._version import VERSION
from fluxhook.admin.dashboard.session.viewer import Viewer, complaint
from fluxhook.admin.dashboard.widgets.dom import Text, icon, link, root_path, tag, text
from fluxhook.admin.sampler import SHARED_S
from fluxhook.errors import FluxhookError

__all__ = ["Frame", "card", "failure_page", "frame"]

_PAGES: Final = (
    ("/", "Overview"),
    ("/endpoints", "Endpoints"),
    ("/deliveries", "Deliveries"),
    ("/retries", "Retries"),
    ("/dead-letters", "Dead letters"),
    ("/lists", "Problems"),
    ("/audit", "Audit trail"),
)
_HEAD: Final = (
    '<link rel="stylesheet" href="{root}/_dashboard/dashboard.css">'
    '<script src="{root}/_dashboard/dashboard.js"></script>'
)
_STOPPED: Final = (
    "The engine is not running. The figures are what it left, and nothing can be changed. "
    "Start it again: by fluxhook serve -c FILE, or with the program that embeds it."
)


class Frame:
    """A page's frame. What is given to `every` is called while the page is looked at."""

    def __init__(self, viewer: Viewer, running: Element, stopped: Element, trouble: Text) -> None:
        self.viewer = viewer
        self._running = running
        self._stopped = stopped
        self._trouble = trouble
        self._timers: list[ui.timer] = []

    def every(self, refresh: Callable[[], Awaitable[None]], seconds: float = SHARED_S) -> None:
        """Call `refresh` again and again; its errors are shown at the top until it works again."""

        async def tick() -> None:
            try:
                await refresh()
            except FluxhookError as error:
                if "read" not in self.viewer.scopes:
                    ui.navigate.reload()  # which leads to the login
                self.say(complaint(error))
            else:
                self.say("")

        self._timers.append(ui.timer(seconds, tick, immediate=False))

    def show(self, shown: bool) -> None:
        """Note whether somebody sees the page."""
        for timer in self._timers:
            timer.active = shown

    def say(self, trouble: str) -> None:
        self._trouble.set_visibility(bool(trouble))
        self._trouble.say(trouble)

    def engine(self, running: bool) -> None:
        state = "running" if running else "stopped"
        if self._running.props.get("state") != state:
            self._running.props["state"] = state
        self._stopped.set_visibility(not running)


@contextmanager
def frame(viewer: Viewer, title: str, path: str) -> Iterator[Frame]:
    """Put the page's content into the block; `path` is that of the entry in the navigation."""
    ui.page_title(f"{title} - Fluxhook")
    ui.add_head_html(_HEAD.format(root=root_path()))
    # NiceGUI calls the whole page `main`; ours is the part below the navigation.
    around = ui.context.client.content.parent_slot
    if around is not None:
        around.parent.props["role"] = "presentation"
    link("Skip to the content", "#main", "skip")
    with tag("header", "top"):
        with tag("a", "brand", href="/", aria_label="Fluxhook, overview"):
            tag("img", src="/_dashboard/icon.svg", alt="", width=22, height=22)
            text("span", "Fluxhook")
        with tag("fh-nav", role="navigation", aria_label="Pages"):
            for target, name in _PAGES:
                link(name, target, aria_current="page" if target == path else None)
        with tag("div", "tools"):
            running = tag("fh-state", "engine", state="running")
            tag("fh-theme")
            if viewer.logged_in:
                with (
                    tag("form", method="post", action="/logout"),
                    tag("button", "button ghost square", type="submit", aria_label="Log out"),
                ):
                    icon("logout")
    with tag("main", id="main", tabindex="-1"):
        stopped = text("div", _STOPPED, "banner", role="status")
        stopped.set_visibility(False)
        trouble = text("div", "", "banner bad", role="alert")
        trouble.set_visibility(False)
        made = Frame(viewer, running, stopped, trouble)
        yield made
    with tag("footer"):
        text("span", f"Fluxhook {VERSION}")
        if not viewer.may_write:
            text("span", "Read only: your token does not have the scope write.")

    def seen(event: GenericEventArguments) -> None:
        made.show(bool(event.args))

    ui.on("page_shown", seen)


@contextmanager
def card(title: str, *, level: str = "h2", classes: str = "") -> Iterator[Element]:
    """Add a section with a heading; yield the head's right side, for buttons."""
    with tag("section", f"card {classes}"):
        with tag("div", "card-head"):
            text(level, title)
            side = tag("div", "side")
        yield side


def failure_page(viewer: Viewer, status: int, reason: str, path: str) -> None:
    """Show a page that says why there is nothing to see; `path` is that of the list where it would
    be."""
    ui.context.client.status_code = status
    with frame(viewer, reason, path), tag("div", "empty"):
        text("h1", reason)
        link("Back to the list", path, "button")

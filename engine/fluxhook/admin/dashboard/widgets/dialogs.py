"""Questions before what cannot be undone, and windows for what comes of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nicegui import ui

from fluxhook.admin.dashboard.widgets.dom import button, tag, text

__all__ = ["confirm", "window"]


async def confirm(title: str, consequence: str, action: str, *, dangerous: bool = False) -> bool:
    """Ask, and return whether somebody said yes. Escape and the other button say no."""
    with window(title) as dialog:
        text("p", consequence)
        with tag("div", "buttons"):
            yes = button(action, "", "danger" if dangerous else "primary")
            yes.on("click", lambda: dialog.submit(True))
            no = button("Cancel", autofocus=True)
            no.on("click", lambda: dialog.submit(False))
    answer = await dialog
    dialog.delete()
    return bool(answer)


@contextmanager
def window(title: str) -> Iterator[ui.dialog]:
    """Open a dialog with a heading; the keyboard stays within it."""
    with ui.dialog(value=True) as dialog:
        dialog.props["aria-label"] = title
        with tag("div", "window"):
            text("h2", title)
            yield dialog

"""The way between the two trails: what was given up and erased, and who changed what."""

from __future__ import annotations

from typing import Final

from fluxhook.admin.dashboard.widgets.dom import link, tag

__all__ = ["trail_links"]

_TRAILS: Final = (("/audit", "Given up and erased"), ("/audit/changes", "Changes"))


def trail_links(path: str) -> None:
    """Add a link for each trail; `path` is that of the one that is shown."""
    with tag("nav", "buttons", aria_label="Trails"):
        for target, name in _TRAILS:
            current = "page" if target == path else None
            link(name, target, "button", aria_current=current)

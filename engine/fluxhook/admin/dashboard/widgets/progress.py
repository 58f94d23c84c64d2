"""How far a long action has come."""

from __future__ import annotations

from fluxhook.admin.dashboard.widgets.dom import tag, text

__all__ = ["ProgressLine"]


class ProgressLine:
    """A bar with its figures. It stays, with what was done, when the action is over."""

    def __init__(self) -> None:
        with tag("div", "progress", role="status") as self._box:
            self._bar = tag("progress", aria_label="Progress")
            self._said = text("span", "")
        self._box.set_visibility(False)

    def show(self, done: str, n: int, whole: int | None) -> None:
        """Show the progress; `done` is a word such as Replayed; `whole` is None where it is not
        known."""
        self._box.set_visibility(True)
        self._bar.set_visibility(True)
        self._bar.props.set_optional("max", max(whole, n, 1) if whole is not None else None)
        self._bar.props.set_optional("value", n if whole is not None else None)
        self._said.say(f"{done} {n:,}" + (f" of {max(whole, n):,}" if whole is not None else ""))

    def end(self) -> None:
        self._bar.set_visibility(False)

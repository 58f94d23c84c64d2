"""What goes on failing: the log has a line when it begins, one each minute, and one when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable

from fluxhook.transport.process import log

__all__ = ["REMIND_S", "Outage"]

#: between two lines about the same; arbitrary
REMIND_S = 60.0


class Outage:
    """One thing that is tried again and again."""

    def __init__(self, over: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the line for its end, `over`."""
        self._over = over
        self._clock = clock
        #: the last line about it, empty while it works, and when that was
        self._told = ""
        self._told_at = 0.0

    @property
    def under_way(self) -> bool:
        """Return whether it failed the last time."""
        return bool(self._told)

    def failed(self, text: str) -> None:
        """Note that it failed, again perhaps; another `text` than before is logged at once."""
        now = self._clock()
        if text != self._told or now - self._told_at >= REMIND_S:
            self._told, self._told_at = text, now
            log.error("%s", text)

    def worked(self) -> None:
        """Note that it did not fail."""
        if self._told:
            self._told = ""
            log.info("%s", self._over)

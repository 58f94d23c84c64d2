"""What goes on failing: the log has a line when it begins, one each minute, and one when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable

from fluxhook.logs.log import Log

__all__ = ["REMIND_S", "Outage"]

log = Log("store")

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
        #: since when it fails, and how often it did
        self._began_at, self._count = 0.0, 0

    @property
    def under_way(self) -> bool:
        """Return whether it failed the last time."""
        return bool(self._told)

    def failed(self, text: str) -> None:
        """Note that it failed, again perhaps; another `text` than before is logged at once."""
        now = self._clock()
        if not self._told:
            self._began_at, self._count = now, 0
        self._count += 1
        if text != self._told or now - self._told_at >= REMIND_S:
            self._told, self._told_at = text, now
            log.error("%s", text, event="outage", for_s=now - self._began_at, count=self._count)

    def worked(self) -> None:
        """Note that it did not fail."""
        if self._told:
            self._told = ""
            for_s = self._clock() - self._began_at
            log.info("%s", self._over, event="outage_over", for_s=for_s, count=self._count)

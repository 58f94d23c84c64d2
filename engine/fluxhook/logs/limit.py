"""How many lines go into a log, whatever goes wrong: a bound for each logger and each endpoint."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, NamedTuple

__all__ = ["PER_ENDPOINT", "PER_LOGGER", "WINDOW_S", "LeftOut", "LineLimit"]

#: the time for which lines are counted; what was left out of it is said at its end
WINDOW_S: Final = 60.0
#: lines in that time, of one logger and about one endpoint in it; arbitrary: a person reads so many
PER_LOGGER: Final = 100
PER_ENDPOINT: Final = 10


class LeftOut(NamedTuple):
    """Lines that a logger did not write in a window: by kind, about how many endpoints, and the highest
    of their levels."""

    logger: str
    lines: int
    kinds: dict[str, int]
    endpoints: int
    level: int


@dataclass
class _Window:
    began_s: float
    lines: int = 0
    by_endpoint: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    #: endpoints about which lines were left out
    endpoints: set[str] = field(default_factory=set)
    level: int = 0


class LineLimit:
    """The windows of all loggers; a window begins with a logger's first line. Times are seconds of any
    clock that does not go back."""

    def __init__(self, per_logger: int = PER_LOGGER, per_endpoint: int = PER_ENDPOINT) -> None:
        self._per_logger = per_logger
        self._per_endpoint = per_endpoint
        self._windows: dict[str, _Window] = {}

    def admit(self, logger: str, endpoint: str, kind: str, now_s: float, level: int = 0) -> bool:
        """Return whether a line may be written. `endpoint` is empty for one that is about none. Call
        `over` before."""
        window = self._windows.setdefault(logger, _Window(now_s))
        full = window.lines >= self._per_logger
        if full or (endpoint and window.by_endpoint[endpoint] >= self._per_endpoint):
            window.left_out[kind] += 1
            window.level = max(window.level, level)
            if endpoint:
                window.endpoints.add(endpoint)
            return False
        window.lines += 1
        if endpoint:
            window.by_endpoint[endpoint] += 1
        return True

    def over(self, now_s: float, *, all: bool = False) -> list[LeftOut]:
        """End the windows whose time is over, or all, and return what was left out of them."""
        found = []
        # Without a lock: a signal handler may log in the middle of this, and another thread.
        for name, window in list(self._windows.items()):
            if not all and now_s - window.began_s < WINDOW_S:
                continue
            if self._windows.pop(name, None) is window and window.left_out:
                kinds = dict(window.left_out.most_common())
                lines, endpoints = sum(kinds.values()), len(window.endpoints)
                found.append(LeftOut(name, lines, kinds, endpoints, window.level))
        return found

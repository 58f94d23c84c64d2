"""Who is logged in. A browser gets a random id; the token that it gave stays here, in memory."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Final, NamedTuple

__all__ = ["IDLE_S", "Session", "Sessions"]

#: a session ends after this long without a request; a working day
IDLE_S: Final = 12 * 3600.0
#: The one that was not used for the longest goes first; arbitrary.
MAX_SESSIONS: Final = 1000


class Session(NamedTuple):
    """A browser that gave `token`. Whether the token is still good is asked each time."""

    id: str
    token: str


class Sessions:
    """Sessions by their ids. One thread's: the event loop's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: in the order of their last use
        self._known: dict[str, tuple[Session, float]] = {}

    def open(self, token: str) -> Session:
        session = Session(secrets.token_urlsafe(32), token)
        while len(self._known) >= MAX_SESSIONS:
            del self._known[next(iter(self._known))]
        self._known[session.id] = (session, self._clock())
        return session

    def find(self, id: str) -> Session | None:
        session, used = self._known.pop(id, (None, 0.0))
        now = self._clock()
        if session is None or now - used > IDLE_S:
            return None
        self._known[id] = (session, now)
        return session

    def close(self, id: str) -> None:
        self._known.pop(id, None)

"""Who is logged in. A browser gets a random id; the token that it gave stays here, in memory."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Final

__all__ = ["IDLE_S", "Session", "Sessions"]

#: a session ends after this long without a request or a change; a working day
IDLE_S: Final = 12 * 3600.0
#: The one that was not used for the longest goes first; arbitrary.
MAX_SESSIONS: Final = 1000


class Session:
    """A browser that gave `token`. Whether the token is still good is asked each time.

    It ends once, for all tabs of the browser, and what holds it sees that at once.
    """

    def __init__(self, id: str, token: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.id = id
        self.token = token
        self._clock = clock
        self._used = clock()
        self.ended = asyncio.Event()

    def use(self) -> None:
        """Put the end off: somebody is at work."""
        self._used = self._clock()

    def left_s(self) -> float:
        """Return for how long it goes on unless it is used."""
        return max(0.0, IDLE_S - (self._clock() - self._used))


class Sessions:
    """Sessions by their ids. One thread's: the event loop's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: in the order of their last use
        self._known: dict[str, Session] = {}

    def open(self, token: str) -> Session:
        session = Session(secrets.token_urlsafe(32), token, self._clock)
        while len(self._known) >= MAX_SESSIONS:
            self.close(next(iter(self._known)))
        self._known[session.id] = session
        return session

    def find(self, id: str, *, use: bool = True) -> Session | None:
        """Return a session that goes on; to `use` it puts its end off."""
        session = self._known.get(id)
        if session is None or self.left_s(session) <= 0:
            return None
        if use:
            session.use()
            self._known[id] = self._known.pop(id)
        return session

    def left_s(self, session: Session) -> float:
        """Return for how long it goes on unless it is used; 0: it has ended, now at the latest."""
        left = session.left_s()
        if left <= 0:
            self.close(session.id)
        return 0.0 if session.ended.is_set() else left

    def close(self, id: str) -> None:
        if session := self._known.pop(id, None):
            session.ended.set()

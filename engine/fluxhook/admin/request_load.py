"""How many requests may be under way: in all, and of one client.

Where there is no room, one whose body is still awaited gives way, the oldest of the client with the
most. So slow senders keep nobody out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from fluxhook.admin.problem_details import RequestError

__all__ = ["MAX_OF_ONE", "MAX_REQUESTS", "PATIENCE_S", "RequestLoad"]

#: Arbitrary, some more than the THREADS (server.py).
MAX_REQUESTS: Final = 128
#: So one client leaves room for the others. Arbitrary.
MAX_OF_ONE: Final = 64
#: for so long a body is awaited in any case; arbitrary
PATIENCE_S: Final = 0.25


class Waiting(Protocol):
    """A request (exchange.py)."""

    @property
    def waited_s(self) -> float: ...
    def give_way(self) -> None: ...


class RequestLoad:
    """The requests that are under way, by client. One thread's: the event loop's."""

    def __init__(self) -> None:
        #: the oldest of each first
        self.by_client: dict[str, dict[Waiting, None]] = {}

    @property
    def under_way(self) -> int:
        return sum(map(len, self.by_client.values()))

    @contextmanager
    def one_more(self, client: str, request: Waiting) -> Iterator[None]:
        """Count a request for as long as it goes on. Raise RequestError (503) where there is no room
        for it."""
        mine = self.by_client.setdefault(client, {})
        try:
            if len(mine) >= MAX_OF_ONE:
                self._make_room([mine], f"{MAX_OF_ONE} requests of this token or address")
            elif self.under_way >= MAX_REQUESTS:
                most_first = sorted(self.by_client.values(), key=len, reverse=True)
                self._make_room(most_first, f"{MAX_REQUESTS} requests")
            mine[request] = None
            yield
        finally:
            mine.pop(request, None)
            if not mine:
                self.by_client.pop(client, None)

    def _make_room(self, among: list[dict[Waiting, None]], what: str) -> None:
        for requests in among:
            for one in requests:
                if one.waited_s >= PATIENCE_S:
                    one.give_way()
                    del requests[one]
                    return
        raise RequestError("overloaded", f"{what} are under way; try again in a second.")

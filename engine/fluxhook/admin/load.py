"""How many requests may be under way: in all, and of one client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fluxhook.admin.problems import RequestError

__all__ = ["MAX_OF_ONE", "MAX_REQUESTS", "Load"]

#: Arbitrary, some more than the THREADS (server.py).
MAX_REQUESTS: Final = 128
#: So one client leaves room for the others. Arbitrary.
MAX_OF_ONE: Final = 64


class Load:
    """Counts the requests that are under way. One thread's: the event loop's."""

    def __init__(self) -> None:
        self.under_way: Counter[str] = Counter()

    @contextmanager
    def one_more(self, client: str) -> Iterator[None]:
        """For as long as a request goes on. Raises RequestError (503) where there is no room for it."""
        if self.under_way[client] >= MAX_OF_ONE or self.under_way.total() >= MAX_REQUESTS:
            who = "of this token or address " if self.under_way[client] >= MAX_OF_ONE else ""
            n = MAX_OF_ONE if who else MAX_REQUESTS
            raise RequestError(
                "overloaded", f"{n} requests {who}are under way; try again in a second."
            )
        self.under_way[client] += 1
        try:
            yield
        finally:
            self.under_way[client] -= 1
            if not self.under_way[client]:
                del self.under_way[client]

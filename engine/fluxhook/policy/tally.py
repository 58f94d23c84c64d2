"""What happens in numbers is said in sums: soon after the first, and then once a minute."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, NamedTuple, TypeVar

__all__ = ["GATHER_NS", "PAUSE_NS", "Sum", "Tally"]

#: what comes with the first one is in its sum; arbitrary
GATHER_NS: Final = 1_000_000_000
#: between two sums of the same
PAUSE_NS: Final = 60_000_000_000

K = TypeVar("K", bound=Hashable)


class Sum(NamedTuple):
    """How many there were, and what was said of the first and of the last one."""

    total: int
    first: str
    last: str


class Tally(Generic[K]):
    """Sums by key. Times are nanoseconds of any clock."""

    def __init__(self) -> None:
        self._sums: dict[K, Sum] = {}
        #: when each sum that is open is to be given out, and when one was last
        self._due_ns: dict[K, int] = {}
        self._said_ns: dict[K, int] = {}
        #: before that nothing is due, unless a sum is begun
        self._next_ns = 0

    def add(self, key: K, item: str = "", n: int = 1) -> None:
        """Count one, or `n`."""
        sum = self._sums.get(key)
        if sum is None:
            self._next_ns = 0
        first = item if sum is None else sum.first
        self._sums[key] = Sum(n + (0 if sum is None else sum.total), first, item)

    def due(self, now_ns: int, *, all: bool = False) -> list[tuple[K, Sum]]:
        """Take out the sums whose time has come, or all."""
        if now_ns < self._next_ns and not all:
            return []
        for key in [k for k, said_ns in self._said_ns.items() if now_ns - said_ns >= PAUSE_NS]:
            del self._said_ns[key]
        for key in self._sums.keys() - self._due_ns.keys():
            said_ns = self._said_ns.get(key)
            self._due_ns[key] = now_ns + GATHER_NS if said_ns is None else said_ns + PAUSE_NS
        found = [key for key, due_ns in self._due_ns.items() if all or now_ns >= due_ns]
        for key in found:
            self._said_ns[key] = now_ns
            del self._due_ns[key]
        self._next_ns = min(self._due_ns.values(), default=now_ns + PAUSE_NS)
        return [(key, self._sums.pop(key)) for key in found]

"""Event ids and timestamps, without a system call for each."""

from __future__ import annotations

import functools
import os
import random
import re
import time
import weakref
from typing import Final

__all__ = ["Ids", "Timestamps", "id_fault"]

#: RFC 9562 section 4.1: the two bits of the variant are 10.
_VARIANT: Final = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))

#: Visible ASCII, as the id travels in a header, without the dot: Standard Webhooks signs
#: "<id>.<timestamp>.<body>". The length is arbitrary.
_ID: Final = re.compile(r"[!-\-/-~]{1,128}")


def id_fault(event_id: str) -> str | None:
    """What is wrong with an id that a host brings, or None."""
    if isinstance(event_id, str) and _ID.fullmatch(event_id):
        return None
    return f"{event_id!r:.80} is not an event id: 1 to 128 visible ASCII characters without a dot"


class Ids:
    """Makes event ids from a generator of its own, seeded by the system, and anew after a fork.

    Ids are unique, not secret: who has seen many of them can tell the next. Safe to share among
    threads (CPython draws a number in one step).
    """

    def __init__(self) -> None:
        # Not the module's generator: a host that seeds that one would get its ids a second time.
        self._random = random.Random()
        self._bits = self._random.getrandbits
        _reseeded_after_fork().add(self)

    def gateway(self) -> str:
        """`evt_` and 20 hexadecimal digits: 80 random bits."""
        return "evt_" + self._bits(80).to_bytes(10, "little").hex()

    def broker(self) -> str:
        """A UUID of version 4 (RFC 9562 section 5.4)."""
        h = self._bits(128).to_bytes(16, "little").hex("-", 6)  # 8-12-12 digits
        return f"{h[:13]}-4{h[14:17]}-{_VARIANT[h[17]]}{h[18:]}"


@functools.cache
def _reseeded_after_fork() -> weakref.WeakSet[Ids]:
    """The generators of this process. Made with the first of them, for a fork hook is for ever."""
    generators: weakref.WeakSet[Ids] = weakref.WeakSet()

    def reseed() -> None:
        for ids in generators:
            ids._random.seed()

    os.register_at_fork(after_in_child=reseed)
    return generators


class Timestamps:
    """RFC 3339 text of whole seconds, UTC: `2024-05-14T09:32:11Z`.

    Remembers the latest second, so that one text serves all its events. Safe to share among
    threads.
    """

    def __init__(self) -> None:
        # One attribute, so that no thread sees the second of one text with the other.
        self._latest = (-1, "")

    def __call__(self, now_s: int) -> str:
        second, text = self._latest
        if now_s != second:
            text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s))
            self._latest = now_s, text
        return text

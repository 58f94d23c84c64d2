"""Event ids and timestamps, without a system call for each."""

from __future__ import annotations

import re
import time
from typing import Final

from fluxhook._native.event import Ids

__all__ = ["Ids", "Timestamps", "id_fault", "is_plain_id"]

#: Visible ASCII, as the id travels in a header, without the dot: Standard Webhooks signs
#: "<id>.<timestamp>.<body>". The length is arbitrary.
_ID: Final = re.compile(r"[!-\-/-~]{1,128}")

#: The same without what JSON escapes.
_PLAIN_ID: Final = re.compile(r"[!#-\-/-\[\]-~]{1,128}")


def is_plain_id(event_id: str) -> bool:
    """Return whether a host's id is one, and JSON carries it as it is. TypeError for what is no
    text."""
    return _PLAIN_ID.fullmatch(event_id) is not None


def id_fault(event_id: str) -> str | None:
    """Return what is wrong with an id that a host brings, or None."""
    if isinstance(event_id, str) and _ID.fullmatch(event_id):
        return None
    return f"{event_id!r:.80} is not an event id: 1 to 128 visible ASCII characters without a dot"


class Timestamps:
    """RFC 3339 text of whole seconds, UTC: `2024-05-14T09:32:11Z`.

    Remembers the latest second, so that one text serves all its events. Safe to share among
    threads.
    """

    def __init__(self) -> None:
        # One attribute, so that no thread sees the second of one text with the other.
        self._latest = (-1, "")

    def now(self) -> tuple[int, str]:
        """Return the current second since the epoch, and its text."""
        now_s = int(time.time())
        return now_s, self(now_s)

    def __call__(self, now_s: int) -> str:
        second, text = self._latest
        if now_s != second:
            text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s))
            self._latest = now_s, text
        return text

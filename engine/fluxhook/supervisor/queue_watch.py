"""Sees events that publishers dropped because a queue was full, and logs them in sums.

`emit` does no I/O and says nothing itself: it counts, and here the counters are read now and then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from fluxhook._native import shared
from fluxhook.logs.log import Log
from fluxhook.policy.tally import Tally
from fluxhook.transport import datadir as d
from fluxhook.transport.snapshot import Snapshot

__all__ = ["QueueWatch"]

#: between two looks, at least, at most, and for each counter that is read: so that reading takes a
#: thousandth of the time, at half a microsecond for each
LOOK_S, MOST_LOOK_S, COST_S = 2.0, 60.0, 0.0005

What = Literal["dropped", "refused"]
_FIELDS: Final[dict[int, What]] = {d.DROPPED_OLDEST: "dropped", d.REFUSED: "refused"}

log = Log("publisher")


class QueueWatch:
    """Call `look` now and then. Times are seconds of the monotonic clock."""

    def __init__(self, datadir: d.DataDir) -> None:
        self._datadir = datadir
        self._counters: dict[Path, shared.Counters] = {}
        self._before: dict[tuple[Path, int, int], int] = {}
        self._tally: Tally[tuple[str, What]] = Tally()
        self._next_look = 0.0
        #: what was counted before this engine is none of its news
        self._first = True

    def look(self, snapshot: Snapshot, now: float) -> None:
        """Read the counters, if it is time, and log what is due."""
        if now >= self._next_look:
            read = self._read(snapshot)
            self._next_look = now + min(MOST_LOOK_S, max(LOOK_S, read * COST_S))
            self._first = False
        for (name, what), sum in self._tally.due(int(now * 1e9)):
            policy = snapshot.config.drop_policy
            log.warning(
                "endpoint %s: the queue was full, %d events were %s (drop_policy %s)",
                name, sum.total, what, policy,
                event="queue_full", endpoint=name, policy=policy, count=sum.total, what=what,
            )  # fmt: skip

    def _read(self, snapshot: Snapshot) -> int:
        """Note what was dropped since the last time; return how many counters were read."""
        read = 0
        for slot in self._datadir.publisher_slots():
            counters = self._open(slot)
            if counters is None:
                continue
            for name, id in snapshot.ids.items():
                if id >= counters.rows:
                    continue
                for field, what in _FIELDS.items():
                    read += 1
                    count = counters.get(id, field)
                    before = self._before.get((slot, id, field), 0)
                    if count == before:
                        continue
                    self._before[slot, id, field] = count
                    if count > before and not self._first:
                        self._tally.add((name, what), n=count - before)
        return read

    def _open(self, slot: Path) -> shared.Counters | None:
        known = self._counters.get(slot)
        if known is not None and known.in_place:
            return known
        try:
            found = shared.Counters(str(slot / "counters"), 0, d.PUBLISHER_FIELDS, writable=False)
        except (OSError, shared.LayoutMismatch):
            return None  # the publisher makes it, or the next start
        self._counters[slot] = found
        return found

"""The supervisor's eye on the machine's clock (policy/clock.py says why there are two)."""

from __future__ import annotations

import contextlib
import time
from typing import NamedTuple

from fluxhook.logs.log import Log
from fluxhook.policy import clock
from fluxhook.policy.clock import Clock
from fluxhook.store import DeliveryStore, StoreError
from fluxhook.transport import datadir as d
from fluxhook.transport.engine_clock import EngineClock, read_clocks

__all__ = ["ClockWatch", "Look", "begin"]

log = Log("engine")

#: how often the clock is saved, and after how long without a look at it the engine was away
SAVING_S = 60.0
AWAY_NS = 150_000_000_000


class Look(NamedTuple):
    """What one look has found since the one before it."""

    #: the wall clock was set
    stepped: bool
    #: nobody was here to look for long, as the engine did not run or the machine slept
    away: bool


class ClockWatch:
    """Reads the engine's clock, sees when the machine's was set, and saves both in the store."""

    def __init__(self, store: DeliveryStore, published: Clock) -> None:
        """Take `published`, the clock of the last snapshot."""
        self.clock = begin(store, published)
        self._store = store
        #: when it is saved next, in seconds of the monotonic clock
        self.save_at = 0.0

    def look(self) -> Look:
        """Compare the clocks, and note the new offset if the wall clock was set."""
        before, (boot_ns, wall_ns) = self.clock.known, read_clocks()
        known = self.clock.known = clock.look(before, before.origin_ns + boot_ns, wall_ns)
        stepped = known.offsets != before.offsets
        if stepped:
            step_s = (known.offset_ns - before.offset_ns) / 1e9
            log.warning(
                "the machine's clock was set %s by %.1f s; what waits here goes on as it was",
                "forward" if step_s > 0 else "back", abs(step_s),
            )  # fmt: skip
            self.save_at = 0.0
        return Look(stepped, known.seen_ns - before.seen_ns >= AWAY_NS)

    def save(self) -> None:
        """Save the clock, so that an engine after a boot knows what time it was here at least."""
        with contextlib.suppress(StoreError):  # the next time will do
            self._store.save_clock(self.clock.known)
            self.save_at = time.monotonic() + SAVING_S


def begin(store: DeliveryStore, published: Clock) -> EngineClock:
    """Return the engine's clock as it goes on from what was saved."""
    known, newest_ns = store.clock(), store.newest_ns()
    if not known.boot_id:  # a new store, or one made anew beside older words
        known = published
    if not known.boot_id:  # of a version that went by the wall clock
        newest_ns = max(newest_ns, store.last_attempt_ns())
    return EngineClock(clock.begin(known, d.boot_id().hex(), *read_clocks(), newest_ns))

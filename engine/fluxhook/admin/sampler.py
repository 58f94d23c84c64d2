"""Who reads the counters: once for all who ask within a moment, and every ten seconds for the history.

A page that asks gets the reading that there is, or has a new one made where that is too old.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from fluxhook.admin.history import INTERVAL_S, Counts, Frames, Point, counts_of, rates
from fluxhook.admin.history_file import HistoryFile, Moment
from fluxhook.admin.models import Status
from fluxhook.admin.views import status_view
from fluxhook.errors import FluxhookError
from fluxhook.logs.log import Log
from fluxhook.policy.clock import STEP_NS
from fluxhook.stats import Stats
from fluxhook.text import repaired
from fluxhook.transport.datadir import boot_id

__all__ = ["SHARED_S", "Sampler", "boot_time"]

#: for so long a reading is as good as a new one; pages ask as often
SHARED_S: Final = 2.0
#: A rate over a shorter time says nothing.
_MIN_RATE_S: Final = SHARED_S / 2
#: to the first rates of a history, so that nobody waits for them
_FIRST_S: Final = 2.0

log = Log("admin")


def boot_time() -> float:
    """Return seconds of CLOCK_BOOTTIME, which nobody sets, and which goes on while a machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Reading(NamedTuple):
    at_s: float
    stats: Stats
    counts: dict[int | None, Counts]


class Sampler:
    """Readings of one engine's counters. For tasks of one event loop."""

    def __init__(
        self,
        read: Callable[[], Stats],
        file: HistoryFile,
        clock: Callable[[], float] = boot_time,
        wall: Callable[[], float] = time.time,
        pause_s: float = INTERVAL_S,
    ) -> None:
        """Take readings by a `clock` that nobody sets; what is shown is dated by the one on the `wall`.
        After a reading without points there is a pause."""
        self._read = read
        self._file = file
        #: Nobody waits for the disk, and one thread does one thing after the other.
        self._disk = ThreadPoolExecutor(1, "history")
        self._boot_id = boot_id()
        self._clock = clock
        self._wall = wall
        self._ahead = 0.0
        self._pause_s = pause_s
        self._lock = asyncio.Lock()
        self._frames = Frames()
        self._latest: _Reading | None = None
        self._fresh = False
        #: with the latest, for the rates of this moment
        self._before: _Reading | None = None
        #: of the last points of the history, and how many these are
        self._kept: _Reading | None = None
        self._n_kept = 0
        self._task: asyncio.Task[None] | None = None
        self._said = ""

    async def start(self) -> None:
        """Take up the history where the process before left it, and go on with it."""
        loading = self._disk.submit(self._file.load, self._moment())
        frames = await asyncio.wrap_future(loading)
        self._frames = Frames(frames)
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        # Then the next process has the files.
        await asyncio.wrap_future(self._disk.submit(self._file.close))

    async def stats(self) -> Stats:
        """Return a reading that is no older than SHARED_S. Raise what `read_stats` raises."""
        async with self._lock:
            latest = self._latest
            age_s = 0.0 if latest is None else self._clock() - latest.at_s
            if latest is None or not self._fresh or not 0 <= age_s < 0.9 * SHARED_S:
                stats = await asyncio.to_thread(self._read)
                latest = _Reading(self._clock(), stats, counts_of(stats))
                self._note(latest)
            return latest.stats

    async def status(self) -> Status:
        """Return the same as the API shows it."""
        stats = await self.stats()
        at_s = self._clock() if self._latest is None else self._latest.at_s
        return status_view(stats, int((at_s + self._ahead_s()) * 1e9))

    def expire(self) -> None:
        """Make the next question take a new reading: something was changed."""
        self._fresh = False

    def now(self, endpoint: int | None = None) -> Point | None:
        """Return the rates of an endpoint, or of all together, between the last two readings; None
        where it is in none."""
        latest, before = self._latest, self._before
        if latest is None or endpoint not in latest.counts:
            return None
        old = None if before is None else before.counts.get(endpoint)
        elapsed_s = latest.at_s - before.at_s if before else 0.0
        return rates(old, latest.counts[endpoint], elapsed_s, latest.at_s + self._ahead_s())

    def line(self, endpoint: int | None = None, since_s: float = 0.0) -> list[Point]:
        """Return the last hour of an endpoint, or of all together, dated by the clock on the wall as
        it is now."""
        ahead_s = self._ahead_s()
        line = self._frames.line(endpoint, since_s - ahead_s)
        return [point._replace(at_s=point.at_s + ahead_s) for point in line]

    def _ahead_s(self) -> float:
        """Return by how much the clock on the wall is ahead; the same until it is set, so that a point
        keeps its date."""
        ahead_s = self._wall() - self._clock()
        if abs(ahead_s - self._ahead) > STEP_NS / 1e9:
            self._ahead = ahead_s
        return self._ahead

    def _moment(self) -> Moment:
        return Moment(self._boot_id, self._clock(), self._wall())

    def _note(self, reading: _Reading) -> None:
        latest, self._latest, self._fresh = self._latest, reading, True
        if latest is not None and reading.at_s - latest.at_s >= _MIN_RATE_S:
            self._before = latest
        if reading.stats.running and reading.at_s >= self._next_s():
            self._keep_points(reading)

    def _next_s(self) -> float:
        """Return when the next points of the history are to be made."""
        if self._kept is None:
            return 0.0
        return self._kept.at_s + (_FIRST_S if self._n_kept == 1 else 0.95 * INTERVAL_S)

    def _keep_points(self, reading: _Reading) -> None:
        old, at_s = self._kept, reading.at_s
        before = {} if old is None else old.counts
        elapsed_s = 0.0 if old is None else at_s - old.at_s
        points = {
            endpoint: rates(before.get(endpoint), counts, elapsed_s, at_s)
            for endpoint, counts in reading.counts.items()
        }
        self._kept, self._n_kept = reading, self._n_kept + 1
        frame = self._frames.add(at_s, points)
        self._disk.submit(self._file.append, frame, self._moment()._replace(at_s=at_s))

    async def _keep(self) -> None:
        """Go on until it is cancelled, whatever cannot be read meanwhile."""
        while True:
            self.expire()
            try:
                await self.stats()
                self._said = ""
            except (FluxhookError, OSError) as error:
                self._say(str(error))
            except Exception as error:
                self._say(f"{type(error).__name__}: {error}")
            ahead_s = self._next_s() - self._clock()
            await asyncio.sleep(ahead_s if ahead_s > 0 else self._pause_s)

    def _say(self, trouble: str) -> None:
        if trouble != self._said:
            self._said = trouble
            log.warning("the history has a gap: the counters cannot be read: %s", repaired(trouble))

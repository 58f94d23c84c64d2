"""Reading the engine's clock (policy/clock.py has what it is)."""

from __future__ import annotations

import time
from time import CLOCK_BOOTTIME, clock_gettime_ns
from typing import Final

from fluxhook.policy.clock import Clock

__all__ = ["EngineClock", "read_clocks"]

#: Between two readings of CLOCK_BOOTTIME that are further apart the process was not running, and
#: what was read there belongs to neither. Arbitrary, half of the smallest step.
_TOGETHER_NS: Final = 50_000_000


class EngineClock:
    """The clock as one process reads it; `known` is replaced when the supervisor has published what
    it saw."""

    def __init__(self, known: Clock) -> None:
        self.known = known
        self._origin_ns = known.origin_ns

    def now_ns(self) -> int:
        """Engine time: it goes on evenly, while the machine sleeps too, whatever sets its clock."""
        return clock_gettime_ns(CLOCK_BOOTTIME) + self._origin_ns

    def wall_ns(self, at_ns: int) -> int:
        """Return the wall time at an engine time."""
        return self.known.wall_ns(at_ns)

    def age_ns(self, wall_ns: int, now_ns: int) -> int:
        """Return the time since something was dated `wall_ns`."""
        return self.known.age_ns(wall_ns, now_ns)

    def surely_older(self, wall_ns: int, age_ns: int, now_ns: int) -> bool:
        """Return whether more time than that has passed since something was dated `wall_ns`: no, in the
        second in which the wall clock was set and the supervisor has not noticed."""
        if self.known.age_ns(wall_ns, now_ns) <= age_ns:
            return False
        boot_ns, read_ns = read_clocks()
        return not self.known.is_set(boot_ns + self._origin_ns, read_ns)


def read_clocks() -> tuple[int, int]:
    """Return CLOCK_BOOTTIME and the wall clock at the same moment."""
    while True:
        before_ns = clock_gettime_ns(CLOCK_BOOTTIME)
        wall_ns = time.time_ns()
        after_ns = clock_gettime_ns(CLOCK_BOOTTIME)
        if after_ns - before_ns <= _TOGETHER_NS:
            return after_ns, wall_ns

"""Whether a publisher's events come so fast that the worker does better to look for them by the clock.

A worker that sleeps is woken by a bell, which the host rings within `emit`: a system call, and mostly
an interrupt for another core. While a publisher's events are few that is how they are sent at once.
While they are many the worker wakes often enough, so it does not say in that ring that it sleeps, and
the bell is spared: interrupt mitigation, as network drivers do it (NAPI).
"""

from __future__ import annotations

__all__ = ["LOOK_S", "Pace"]

#: how long an event may lie until the worker looks
LOOK_S = 0.001
#: events a second from which the clock sets the pace, and below which the bell does again
BRISK, CALM = 1000, 500
_WINDOW_NS = 8_000_000


class Pace:
    """Counts what was taken from one ring, and judges it over the last 8 ms or more."""

    def __init__(self) -> None:
        self._taken = 0
        self._mark_ns = 0
        self._brisk = False

    def note(self, taken: int) -> None:
        self._taken += taken

    def brisk(self, now_ns: int) -> bool:
        elapsed_ns = now_ns - self._mark_ns
        if elapsed_ns >= _WINDOW_NS:
            least = CALM if self._brisk else BRISK
            self._brisk = self._taken * 1_000_000_000 >= least * elapsed_ns
            self._mark_ns, self._taken = now_ns, 0
        return self._brisk

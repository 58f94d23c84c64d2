"""Decides whether a worker waits for a doorbell, or looks at a publisher's ring by the clock.

A worker that sleeps is woken by a doorbell, which the host rings within `emit`: a system call, and
mostly an interrupt for another core. Few events are sent at once in this way. Where a publisher's
events are many, the worker wakes often enough. It does not say in that ring that it sleeps, so the host
is spared the doorbell: interrupt mitigation, as network drivers do it (NAPI).
"""

from __future__ import annotations

__all__ = ["LOOK_S", "AdaptivePolling"]

#: how long an event may lie until the worker looks
LOOK_S = 0.001
#: events a second from which the clock sets the polling, and below which the doorbell does again
BUSY, CALM = 1000, 500
_WINDOW_NS = 8_000_000


class AdaptivePolling:
    """Counts what was taken from one ring, and judges it over the last 8 ms or more."""

    def __init__(self) -> None:
        self._taken = 0
        self._mark_ns = 0
        self._busy = False

    def note(self, taken: int) -> None:
        self._taken += taken

    def busy(self, now_ns: int) -> bool:
        elapsed_ns = now_ns - self._mark_ns
        if elapsed_ns >= _WINDOW_NS:
            least = CALM if self._busy else BUSY
            self._busy = self._taken * 1_000_000_000 >= least * elapsed_ns
            self._mark_ns, self._taken = now_ns, 0
        return self._busy

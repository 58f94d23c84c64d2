"""Whether a worker waits for endpoints, or for a processor.

Only who waits for endpoints may call one slow. A worker that is short of CPU would find every endpoint
slow, and moving their deliveries to the store would cost it more CPU still.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["IdleGauge"]

#: two nanosecond figures: the time this thread ran, and the time it waited to (proc_pid_schedstat)
_SCHEDSTAT = Path("/proc/thread-self/schedstat")
_WINDOW_NS = 50_000_000


class IdleGauge:
    """Tells, for the last 50 ms or more, whether the thread slept for more than half of it."""

    def __init__(self) -> None:
        self._mark_ns = 0
        self._mark_busy_ns = 0
        self._idle = False

    def idle(self, now_ns: int) -> bool:
        elapsed_ns = now_ns - self._mark_ns
        if elapsed_ns >= _WINDOW_NS:
            busy_ns = _busy_ns()
            self._idle = 2 * (busy_ns - self._mark_busy_ns) < elapsed_ns
            self._mark_ns, self._mark_busy_ns = now_ns, busy_ns
        return self._idle


def _busy_ns() -> int:
    try:
        ran, waited, _ = _SCHEDSTAT.read_text().split()
    except (OSError, ValueError):  # a kernel without CONFIG_SCHED_INFO: endpoints are to blame
        return 0
    return int(ran) + int(waited)

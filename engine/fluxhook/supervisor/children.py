"""The supervisor's children: the workers, and the sidecar beside them."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from fluxhook.config.schema import Config
from fluxhook.config.workers import DEFAULT_WORKERS, processes
from fluxhook.errors import FluxhookError
from fluxhook.logs.log import Log
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.heartbeat import LOOK_S
from fluxhook.transport.process import Child
from fluxhook.transport.readiness import hear

__all__ = ["SIDECAR", "Children", "End", "by_own_fault", "worker_count"]

log = Log("worker")

#: between the death of a worker and its successor; doubled while it keeps dying young
MIN_BACKOFF_S, MAX_BACKOFF_S = 0.05, 5.0
#: a worker that lived this long starts with the shortest backoff again
STEADY_S = 10.0
#: for a report of which the first bytes are here
REPORT_S = 5.0
#: the index of the sidecar among the children
SIDECAR = -1
#: signals that a program causes itself
_FAULTS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)


@dataclass(frozen=True, slots=True)
class End:
    """How a child ended; `by_own_fault` is said of workers alone."""

    index: int
    pid: int
    status: int
    lived_s: float
    by_own_fault: bool
    #: the supervisor killed it, as it made no progress
    hung: bool = False


class Children:
    """Starts them, sees them end, and asks them to leave. Whether one is replaced is the caller's to
    decide. `epoll` tells of an end by the child's pidfd, and of a report by `report_fd`."""

    def __init__(
        self, datadir: DataDir, epoll: select.epoll, sidecar: str | None, host_fd: int = -1
    ) -> None:
        """Take `host_fd`, through which workers log, where a host embeds the engine."""
        self._host_fd = host_fd
        self.sidecar = sidecar
        #: those that run
        self.running: dict[int, Child] = {}
        #: of a sidecar that has not reported yet
        self.report_fd = -1
        self._datadir = datadir
        self._epoll = epoll
        self._start_at: dict[int, float] = {}
        self._backoff_s: dict[int, float] = {}
        #: workers that ended by a fault of their own, and have no successor yet
        self._faulty: set[int] = set()
        self._next_look = 0.0

    # ---- start -----------------------------------------------------------------------------

    def want(self, indices: Iterable[int]) -> None:
        """Have these start with the next `start_due`, those that run excepted."""
        for index in set(indices) - self.running.keys():
            self._backoff_s[index] = MIN_BACKOFF_S
            self._start_at.setdefault(index, 0.0)

    def replace(self, end: End) -> None:
        """Have a successor start after a while, which is longer for one that dies young again."""
        if end.lived_s >= STEADY_S:
            self._backoff_s[end.index] = MIN_BACKOFF_S
        backoff_s = self._backoff_s[end.index]
        self._backoff_s[end.index] = min(2 * backoff_s, MAX_BACKOFF_S)
        self._start_at[end.index] = time.monotonic() + backoff_s
        log.warning(
            "%s (pid %d) ended with status %d; a new one starts in %.2f s",
            self.sidecar if end.index == SIDECAR else f"worker {end.index}",
            end.pid, end.status, backoff_s,
            event="worker_replaced", worker=None if end.index == SIDECAR else end.index,
            status=end.status, how=how_it_ended(end), for_s=end.lived_s,
        )  # fmt: skip

    def start_due(self) -> None:
        """Start those whose time has come."""
        now = time.monotonic()
        for index, start_at in list(self._start_at.items()):
            if now >= start_at:
                child = self._start_sidecar() if index == SIDECAR else self._start_worker(index)
                self.running[index] = child
                self._epoll.register(child.pidfd, select.EPOLLIN)
                del self._start_at[index]

    def wait_s(self, longest_s: float, now: float) -> float:
        """Return how long it is until the next one starts, `longest_s` at most."""
        if not self._start_at:
            return longest_s
        return min(longest_s, max(0.0, min(self._start_at.values()) - now))

    def _start_worker(self, index: int) -> Child:
        wary = str(int(index in self._faulty))
        self._faulty.discard(index)
        return Child(
            "worker", str(self._datadir.path), str(index), wary, beats=True, host_fd=self._host_fd
        )

    def _start_sidecar(self) -> Child:
        assert self.sidecar is not None
        child = Child(
            "serve", str(self._datadir.path), module=self.sidecar, reports=True, beats=True
        )
        self.report_fd = child.report_fd
        self._epoll.register(child.report_fd, select.EPOLLIN)
        return child

    def hear_sidecar(self) -> FluxhookError | bool:
        """Take its report: True, it serves; or why it is about to end, False if it did not say that."""
        self._epoll.unregister(self.report_fd)
        said = hear(self.report_fd, REPORT_S)
        self.report_fd = -1
        return said

    # ---- end -------------------------------------------------------------------------------

    def index(self, pidfd: int) -> int:
        """Return which of them has this descriptor."""
        return next(i for i, child in self.running.items() if child.pidfd == pidfd)

    def end(self, pidfd: int) -> End:
        """Reap the child whose pidfd is readable: it has ended."""
        index = self.index(pidfd)
        child = self.running.pop(index)
        self._epoll.unregister(pidfd)
        status = child.reap()
        fault = index != SIDECAR and (child.hung or by_own_fault(status))
        if fault:
            self._faulty.add(index)
        return End(index, child.pid, status, time.monotonic() - child.started, fault, child.hung)

    def kill_stuck(self, now: float) -> None:
        """Kill a child that is alive and does nothing: it would keep its leases, probes and locks."""
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            for child in self.running.values():
                child.kill_if_stuck()

    def leave(self, indices: Iterable[int]) -> None:
        """Ask workers to finish what they have begun, and to end without successors."""
        for index in indices:
            self._start_at.pop(index, None)
            if index in self.running:
                self.running[index].leave()

    def kill(self, indices: Collection[int]) -> None:
        """End workers that did not leave in time."""
        for index in indices:
            log.warning(
                "worker %d did not leave in time; it is stopped", index,
                event="worker_stopped", worker=index,
            )  # fmt: skip
            self.running[index].process.kill()

    def drain(self) -> None:
        """Ask all to finish what they have, and to end."""
        self._start_at.clear()
        for child in self.running.values():
            child.drain()

    def kill_all(self) -> None:
        """End a drain that took too long. What a killed worker had in hand is delivered after the next
        start."""
        for child in self.running.values():
            log.warning("child (pid %d) did not drain in time; it is stopped", child.pid)
            child.process.kill()


def how_it_ended(end: End) -> str:
    """Return a text such as `signal SIGKILL` or `exit 1`."""
    if end.hung:
        return "killed: it made no progress"
    if end.status >= 0:
        return f"exit {end.status}"
    try:
        return f"signal {signal.Signals(-end.status).name}"
    except ValueError:
        return f"signal {-end.status}"


def by_own_fault(status: int) -> bool:
    """Return whether a worker ended by what it did: an error, or a signal that a program causes
    itself. One that was killed may have been killed by anybody."""
    return status > 0 or -status in _FAULTS


def worker_count(config: Config) -> int:
    """Return how many workers a configuration asks for: by default one for each core up to four, since
    a worker fills a core, and a host needs some."""
    if config.workers is not None:
        return processes(config.workers)
    return min(DEFAULT_WORKERS, os.cpu_count() or 1)

"""Small things that the engine's processes need: starting, naming, watching, locking."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import setproctitle

from fluxhook.errors import EngineError
from fluxhook.logs import setup
from fluxhook.logs.log import Log, described, traced
from fluxhook.text import repaired
from fluxhook.transport.datadir import FileLock
from fluxhook.transport.heartbeat import LOOK_S, Heartbeat, Watch
from fluxhook.transport.holders import holders, named
from fluxhook.transport.host_channel import HostChannel, HostHandler, taken_from, variable

__all__ = [
    "LEAVE",
    "Activity",
    "Child",
    "LockHeld",
    "Orphaned",
    "activity_of",
    "described",
    "kill_holders",
    "log",
    "name_process",
    "python",
    "traced",
    "wait_for_lock",
    "waits_for_machine",
]

log = Log("engine")

#: what a worker is told that is to end without a successor of its own
LEAVE = b"l"

#: CPU time between two looks below which a process does not run, although it could; arbitrary: one of
#: twenty on a core gets as much
RUNS_S = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")
#: the states of a child that is silent by its own doing, and not because somebody stopped it
_AT_WORK = ("R", "S")


def name_process(role: str, data_dir: str) -> HostChannel | None:
    """Set the title that ps and top show, and begin to log under that name: on standard error, or in
    the host's log where one embeds this engine. Return the channel to that host."""
    setproctitle.setproctitle(repaired(f"fluxhook {role} [{data_dir}]"))
    host = None
    if (fd := taken_from(os.environ)) >= 0:
        with contextlib.suppress(OSError):  # it is none: the variable was there before
            host = HostChannel(fd, role, waits=role == "supervisor")
    setup.begin(role, HostHandler(host, role) if host is not None else None)
    return host


class LockHeld(EngineError):
    """Another process has the lock and keeps it."""


class Orphaned(EngineError):
    """The process that started this one is dead: a successor of it may be at work."""


def wait_for_lock(path: Path, timeout_s: float = 10.0, *, alive_fd: int = -1) -> FileLock:
    """Return the lock, once a predecessor that is about to end has let go of it.

    `alive_fd` is a pipe whose other end the process holds that started this one. Raises LockHeld, and
    Orphaned once that other end is closed.
    """
    deadline = time.monotonic() + timeout_s
    parent = select.poll()
    if alive_fd >= 0:
        parent.register(alive_fd, 0)  # which leaves POLLHUP
    while True:
        try:
            lock = FileLock(path)
        except BlockingIOError:
            lock = None
        if parent.poll(0):
            if lock is not None:
                lock.release()
            raise Orphaned(f"who started this process has ended before it had {path}")
        if lock is not None:
            return lock
        if time.monotonic() >= deadline:
            raise LockHeld(
                f"{path} is still held after {timeout_s:g} s, by {named(holders([path]))}; end that "
                "process (kill -9 if it does nothing any more: no file is harmed), then start again"
            )
        time.sleep(0.01)


def kill_holders(path: Path, title: str) -> None:
    """Send SIGKILL to each process that holds the lock and whose title begins like that."""
    for holder in holders([path]):
        if not holder.title.startswith(title):
            continue
        with contextlib.suppress(OSError):  # it has ended, or may not be killed
            fd = os.pidfd_open(holder.pid)
            try:
                if holder in holders([path]):  # still, so the pid is not another's meanwhile
                    log.warning("%s holds %s and does not leave; it is killed", holder, path)
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            finally:
                os.close(fd)


def quiet_environment() -> dict[str, str]:
    """Return the environment for a child: without SSLKEYLOGFILE, which would have libcurl
    and OpenSSL write down what decrypts deliveries. FLUXHOOK_SSLKEYLOGFILE asks for that."""
    environment = dict(os.environ)
    environment.pop("SSLKEYLOGFILE", None)
    if wanted := environment.get("FLUXHOOK_SSLKEYLOGFILE"):
        environment["SSLKEYLOGFILE"] = wanted
    return environment


def python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package. `-P`: never one from the working
    directory, which may be anybody's; PYTHONPATH stays in force."""
    return [sys.executable, "-P", "-m", module, *arguments]


class Child:
    """A process of this package, and a pidfd that becomes readable when it has ended.

    The child holds the reading end of a pipe: it reads as ended once this process is dead, and
    whatever else it reads asks it to drain. A pipe, other than a signal, also reaches a child that
    has only just begun.
    """

    def __init__(
        self,
        role: str,
        *arguments: str,
        module: str = "fluxhook.supervisor",
        stdin: bytes | None = None,
        reports: bool = False,
        beats: bool = False,
        host_fd: int = -1,
    ) -> None:
        """Run `python -P -m MODULE ROLE ALIVE_FD ARGUMENTS`. One that `reports` says on a descriptor,
        which it gets after these, that it serves or why not (transport/readiness.py); one that `beats`
        gets that of its heartbeat as its last argument. `host_fd`: of the channel to the host of an
        embedded engine."""
        alive_read, self._alive_write = os.pipe2(os.O_CLOEXEC)
        self.report_fd, report_write = os.pipe2(os.O_CLOEXEC) if reports else (-1, -1)
        self.heartbeat = Heartbeat() if beats else None
        self._watch = Watch()
        self._activity = Activity("unknown", 0.0)
        #: it was killed for it went on no more, and nobody had stopped it
        self.hung = False
        passed = [alive_read]
        if reports:
            passed.append(report_write)
            arguments = (*arguments, str(report_write))
        if self.heartbeat is not None:
            passed.append(self.heartbeat.fd)
            arguments = (*arguments, str(self.heartbeat.fd))
        if host_fd >= 0:
            passed.append(host_fd)
        try:
            self.process = subprocess.Popen(
                python(module, role, str(alive_read), *arguments),
                stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                pass_fds=passed,
                env=quiet_environment() | variable(host_fd),
            )
        except BaseException:
            os.close(self._alive_write)
            if reports:
                os.close(self.report_fd)
            if self.heartbeat is not None:
                self.heartbeat.close()
            raise
        finally:
            os.close(alive_read)
            if reports:
                os.close(report_write)
        if stdin is not None:
            assert self.process.stdin is not None
            self.process.stdin.write(stdin)
            self.process.stdin.close()
        self.pid = self.process.pid
        self.pidfd = os.pidfd_open(self.pid)
        self.started = time.monotonic()

    def drain(self) -> None:
        """Ask the child to finish what it has and to end."""
        self._ask(b"d")

    def leave(self) -> None:
        """Ask a worker to finish what it has begun, and to end."""
        self._ask(LEAVE)

    def _ask(self, what: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._alive_write, what)

    def kill_if_stuck(self) -> None:
        """Look at its heartbeat: send SIGKILL if it has gone without one for too long. To be called
        once a second at most."""
        if self.heartbeat is None:
            return
        count, now = self.heartbeat.count, activity_of(self.pid)
        waits, self._activity = waits_for_machine(self._activity, now), now
        if self._watch.stuck(count, waits=waits):
            log.error(
                "pid %d has made no progress for %g s (its state is %s); it is killed",
                self.pid, self._watch.silent * LOOK_S, now.state,
                event="process_stuck", child=self.pid, for_s=self._watch.silent * LOOK_S,
            )  # fmt: skip
            self.hung = now.state in _AT_WORK and not waits
            self.process.kill()
            self._watch = Watch()  # it may take its time to end, waiting for a disk

    def wait(self, timeout_s: float | None = None) -> bool:
        """Return once the child has ended; False if the time is over before."""
        if self.pidfd < 0:
            return True  # it was reaped
        ended = select.poll()
        ended.register(self.pidfd, select.POLLIN)
        return bool(ended.poll(None if timeout_s is None else 1000 * timeout_s))

    def reap(self) -> int:
        """Wait for the end; the exit status as subprocess gives it (negative: a signal)."""
        status = self.process.wait()
        self.release()
        return status

    def release(self) -> None:
        """Close this process's descriptors; a child that still runs takes that as our end."""
        for fd in (self.pidfd, self._alive_write, self.report_fd):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self._alive_write = self.report_fd = -1
        if self.heartbeat is not None:
            self.heartbeat.close()
            self.heartbeat = None


class Activity(NamedTuple):
    """The state as ps shows it (T is stopped, D waits for a disk, R runs), and the CPU time used."""

    state: str
    cpu_s: float


def activity_of(pid: int) -> Activity:
    """Return what a process does; its state is "unknown" where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return Activity("unknown", 0.0)
    return Activity(fields[0], (int(fields[11]) + int(fields[12])) / _TICKS)


def waits_for_machine(before: Activity, now: Activity) -> bool:
    """Return whether a process waits for the machine: for a disk or swapped memory, or for a core."""
    return now.state == "D" or (now.state == "R" and now.cpu_s - before.cpu_s < RUNS_S)

"""Small things that the engine's processes need: starting, naming, watching, locking."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import setproctitle

from fluxhook.errors import EngineError
from fluxhook.transport.datadir import FileLock

__all__ = ["Child", "LockHeld", "Orphaned", "log", "name_process", "wait_for_lock"]

log = logging.getLogger("fluxhook")


def name_process(role: str, data_dir: str) -> None:
    """Sets the title that ps and top show, and the format of what this process logs."""
    setproctitle.setproctitle(f"fluxhook {role} [{data_dir}]")
    logging.basicConfig(
        format=f"%(asctime)s fluxhook {role}: %(levelname)s: %(message)s", level=logging.INFO
    )


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
            raise LockHeld(f"{path} is still held after {timeout_s:g} s")
        time.sleep(0.01)


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
        module: str = "fluxhook.runtime",
        stdin: bytes | None = None,
        pass_fd: int = -1,
    ) -> None:
        """Runs `python -m MODULE ROLE ALIVE_FD ARGUMENTS`."""
        alive_read, self._alive_write = os.pipe2(os.O_CLOEXEC)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, role, str(alive_read), *arguments],
                stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                pass_fds=[alive_read] if pass_fd < 0 else [alive_read, pass_fd],
            )
        except BaseException:
            os.close(self._alive_write)
            raise
        finally:
            os.close(alive_read)
        if stdin is not None:
            assert self.process.stdin is not None
            self.process.stdin.write(stdin)
            self.process.stdin.close()
        self.pid = self.process.pid
        self.pidfd = os.pidfd_open(self.pid)
        self.started = time.monotonic()

    def drain(self) -> None:
        """Asks the child to finish what it has and to end."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._alive_write, b"d")

    def reap(self) -> int:
        """Waits for the end; the exit status as subprocess gives it (negative: a signal)."""
        status = self.process.wait()
        self.release()
        return status

    def release(self) -> None:
        """Closes this process's descriptors; a child that still runs takes that as our end."""
        for fd in (self.pidfd, self._alive_write):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self._alive_write = -1

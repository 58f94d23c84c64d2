"""A ring with all that belongs to it, as a publisher, a worker and the scheduler use it."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sysconfig
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from fluxhook._native import ring, shared

NATIVE = Path(__file__).parents[2] / "_native"
BOOT_ID = bytes(16)
#: a folder that no disk stands behind, where there is one
RAM = "/dev/shm" if os.path.isdir("/dev/shm") else None
#: fields of the publisher's counters, and of the worker's
ACCEPTED, DROPPED = range(2)
SETTLED = 0


def pack(*targets: int) -> bytes:
    return struct.pack(f"<{len(targets)}I", *targets)


class Native(NamedTuple):
    """The compiled modules that are to be used: those of the package, or a test build. Any, since that
    has types of its own."""

    shared: Any
    ring: Any


PRODUCTION = Native(shared, ring)


class RingFiles:
    """The files of one publisher, one worker and the ring between them, and of the worker's outbox.

    Holds nothing open itself: each end is opened by the test that plays it. `native` are the modules to
    use.
    """

    def __init__(
        self,
        folder: Path,
        *,
        queue_size: int = 64,
        capacity: int = 16_384,
        endpoints: int = 8,
        drop_oldest: bool = False,
        native: Native = PRODUCTION,
    ) -> None:
        self.shared, self.ring = native
        self.path = str(folder / "ring")
        self.outbox_path = str(folder / "outbox")
        self.endpoints = endpoints
        self.drop_oldest = drop_oldest
        self._folder = folder
        ring.create_ring(self.path, queue_size, capacity, BOOT_ID)
        ring.create_ring(self.outbox_path, queue_size, capacity, BOOT_ID)
        self.published()
        self.worked()

    def published(self) -> Any:
        path = str(self._folder / "publisher")
        return self.shared.Counters(path, self.endpoints, 2, writable=True)

    def worked(self) -> Any:
        return self.shared.Counters(str(self._folder / "worker"), self.endpoints, 1, writable=True)

    def publisher(self, doorbell: int = -1) -> tuple[Any, Any]:
        """The writing end and its counters, after finishing what a killed predecessor had begun."""
        counters = self.published()
        producer = self.ring.Producer(self.path, drop_oldest=self.drop_oldest, doorbell=doorbell)
        self.ring.recover(counters, [producer])
        return producer, counters

    def worker(self, doorbell: int = -1) -> tuple[Any, Any, Any]:
        """The reading end, the outbox and the worker's counters, in the same way."""
        counters = self.worked()
        consumer = self.ring.Consumer(self.path)
        outbox = self.ring.Producer(self.outbox_path, doorbell=doorbell)
        self.ring.recover(counters, [consumer], outbox)
        consumer.rewind()
        return consumer, outbox, counters

    def scheduler(self) -> Any:
        consumer = self.ring.Consumer(self.outbox_path)
        consumer.rewind()
        return consumer

    def balance(self, handed_over: Iterable[int] = ()) -> list[int]:
        """For each endpoint what was accepted less what became of it: 0, if the books are right.

        `handed_over` are the endpoints of all records that ever were in the outbox.
        """
        published, worked = self.published(), self.worked()
        owed = self.ring.unsettled(self.path)
        handed_over = list(handed_over)
        return [
            published.get(e, ACCEPTED)
            - published.get(e, DROPPED)
            - worked.get(e, SETTLED)
            - handed_over.count(e)
            - owed.get(e, 0)
            for e in range(self.endpoints)
        ]


def compile_c(folder: Path, output: str, *arguments: str) -> Path:
    """Compile C that may include `_native/*.h` into a file of `folder`, with the compiler that made
    this Python; a warning is an error."""
    compiler = sysconfig.get_config_var("CC").split()
    command = [*compiler, "-std=gnu11", "-Wall", "-Werror", f"-I{NATIVE}", "-o", output]
    subprocess.run([*command, *arguments], cwd=folder, check=True)
    return folder / output


def fork(work: Callable[[], object]) -> int:
    """Run `work` in a child process, which then exits with 0, or with 1 if it raised."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def kill(*pids: int) -> None:
    """End children, unless they have ended: the number of one that was waited for is another's."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def outcome(pid: int) -> int:
    """Wait for a child and return its exit status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_apart(work: Callable[[], object], limit_s: int = 20) -> int:
    """`outcome` of `work` in a child that SIGALRM ends if it takes longer than `limit_s`."""

    def limited() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(limit_s)
        work()

    return outcome(fork(limited))

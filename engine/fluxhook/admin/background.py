"""A process in the background: it gives way to deliveries, and is not starved by many."""

from __future__ import annotations

import ctypes
import os
import platform
import selectors
from typing import Final

__all__ = ["NICENESS", "SLICE_NS", "GivingSelector", "give_way", "offer"]

#: a tenth of a core where something else wants all of it, and the whole where nothing does
NICENESS: Final = 10
#: The longest turn on a core that may be asked for. A process that wakes and asks for a shorter one, as
#: all do by default, can take the core before this turn ends (Linux 6.12, sched-eevdf).
SLICE_NS: Final = 100_000_000
#: the number of the system call sched_setattr(2), for which C libraries have had no function for long
_SETATTR: Final = {"x86_64": 314, "aarch64": 274}


class _Attributes(ctypes.Structure):
    """`struct sched_attr` of sched_setattr(2) in its first version; the policy is SCHED_OTHER."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def give_way() -> None:
    """Put this thread, and what it starts from now on, into the background.

    Where the kernel or the processor's system calls are other ones, it is merely nice(10).
    """
    nice = os.nice(max(0, NICENESS - os.nice(0)))
    call = _SETATTR.get(platform.machine())
    if call is not None:
        wanted = _Attributes(ctypes.sizeof(_Attributes), nice=nice, runtime=SLICE_NS)
        ctypes.CDLL(None).syscall(call, 0, ctypes.byref(wanted), 0)


def offer() -> None:
    """Offer the core to any process that waits for it; for what is busy in the background, to be called
    several times a millisecond. It takes less than a microsecond where nobody waits.

    Even one that may interrupt can wait: a worker that is woken in the very moment in which it goes to
    sleep is not asleep yet, so nobody is interrupted for it, and the next one on its core keeps that
    until some tick of the kernel (every 1 to 10 ms) finds the worker's share too small.
    """
    os.sched_yield()


class GivingSelector(selectors.DefaultSelector):
    """For an event loop in the background: before each look at what is ready it offers the core."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        offer()
        return super().select(timeout)

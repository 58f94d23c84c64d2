"""System calls of `emit`: a byte for the doorbell of a sleeping worker, and nothing that waits."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
from collections.abc import Callable, Collection

import pytest

from events.samples import DATA
from fluxhook import Publisher, connect
from support.rig import Rig

ERROR = DATA["route.error"]
#: by the numbers of the two architectures: a byte for a doorbell, and the end; memory; getpid; and what
#: the C library does for a date, once a second: it looks whether the time zone's file is another one
CALLS = {
    "x86_64": {
        "write": 1, "exit_group": 231, "brk": 12, "mmap": 9, "munmap": 11, "mremap": 25,
        "madvise": 28, "getpid": 39, "newfstatat": 262, "openat": 257,
    },
    "aarch64": {
        "write": 64, "exit_group": 94, "brk": 214, "mmap": 222, "munmap": 215, "mremap": 216,
        "madvise": 233, "getpid": 172, "newfstatat": 79, "openat": 56,
    },
}  # fmt: skip
# prctl(2), seccomp(2), and the instructions of a filter (linux/bpf_common.h)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, MODE_FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
KILL, ALLOW = 0x8000_0000, 0x7FFF_0000


def allow_only(calls: Collection[int]) -> None:
    """Have the kernel end this process with SIGSYS at any other system call."""
    n = len(calls)
    code = [(LOAD, 0, 0, 0)]
    code += [(JUMP_IF_EQUAL, n - i, 0, number) for i, number in enumerate(calls)]
    code += [(RETURN, 0, 0, KILL), (RETURN, 0, 0, ALLOW)]
    instructions = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *one) for one in code))
    program = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(code), ctypes.addressof(instructions))
    )
    prctl = ctypes.CDLL(None).prctl
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    assert prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.addressof(program), 0, 0) == 0


def ends(rig: Rig, work: Callable[[Publisher], object]) -> int:
    """Return how a host ends that emits, and then does the work with these calls alone."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with connect(rig.data_dir) as publisher:
                for _ in range(1000):  # what is made once, and memory that is taken once
                    work(publisher)
                allow_only(CALLS[platform.machine()].values())
                for _ in range(2000):
                    work(publisher)
                os._exit(0)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("drop_policy", ["newest", "oldest"])
def test_an_emit_makes_no_system_call_that_could_wait(rig: Rig, drop_policy: str) -> None:
    """No lock is waited for, no file is read or synced: by the short way and by the general one, with
    room in the queue and without."""
    endpoints = [
        rig.endpoint("plain", events=("route.*",)),
        rig.endpoint("keyed", events=("service.*",), ordered=True, order_key="path"),
        rig.endpoint("chosen", events=("route.*",), where=("status_code >= 500",)),
    ]
    with rig.engine(*endpoints, queue_size=500, drop_policy=drop_policy, workers=2):
        for event_type, data in (("route.error", ERROR), ("service.5xx", ERROR), ("a.b", {})):
            assert ends(rig, lambda p, t=event_type, d=data: p.emit(t, d)) == 0  # type: ignore[misc]


def test_another_call_is_noticed(rig: Rig) -> None:
    """The filter itself."""
    with rig.engine(rig.endpoint("a")):
        assert ends(rig, lambda publisher: os.getppid()) == -signal.SIGSYS

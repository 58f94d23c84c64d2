"""The process that gives way."""

from __future__ import annotations

import asyncio
import json
import platform
import subprocess
import sys

import pytest

from fluxhook.admin.background import NICENESS, SLICE_NS, GivingSelector

#: prints the niceness and the slice of a thread that was started afterwards
PROGRAM = """
import ctypes, json, os, threading
from fluxhook.admin.background import _SETATTR, _Attributes, give_way

give_way()
give_way()

def look():
    found = _Attributes()
    getattr = _SETATTR[os.uname().machine] + 1
    assert ctypes.CDLL(None).syscall(getattr, 0, ctypes.byref(found), ctypes.sizeof(found), 0) == 0
    print(json.dumps([os.getpriority(os.PRIO_PROCESS, 0), found.policy, found.nice, found.runtime]))

thread = threading.Thread(target=look)
thread.start()
thread.join()
"""


def test_threads_that_follow_give_way_too() -> None:
    """They have the niceness, once, and on kernels that know it the long slice."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    kernel = tuple(map(int, platform.release().split("-")[0].split(".")[:2]))
    slice_ns = SLICE_NS if kernel >= (6, 12) else 0
    assert json.loads(ended.stdout) == [NICENESS, 0, NICENESS, slice_ns]


def test_a_loop_offers_its_core_before_each_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much there is to do, so that each step of a busy loop is a turn by itself."""
    offers: list[int] = []
    monkeypatch.setattr("os.sched_yield", lambda: offers.append(1))

    async def busy() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(GivingSelector())) as runner:
        runner.run(busy())
    assert len(offers) >= 20

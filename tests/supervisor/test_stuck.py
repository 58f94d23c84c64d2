"""Alive but stuck: who is judged so, and who holds the lock that somebody waits for."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fluxhook import EngineRunning, TooManyPublishers, connect, engine
from fluxhook.supervisor import preparation
from fluxhook.supervisor.children import Children
from fluxhook.supervisor.supervisor import Supervisor
from fluxhook.transport import process
from fluxhook.transport.datadir import DataDir, FileLock
from fluxhook.transport.heartbeat import LOOK_S, START_LOOKS, STUCK_LOOKS, Heartbeat, Watch
from fluxhook.transport.holders import holders, named
from fluxhook.transport.process import LockHeld, kill_holders, wait_for_lock
from support.rig import Rig, seconds, supervisor_pid, until

#: takes a lock, says so, and holds it until its input ends
HOLD = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(fd, fcntl.LOCK_EX)
if sys.argv[2] == "fork" and os.fork():
    os._exit(0)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(path: Path, how: str = "") -> Iterator[int]:
    """The pid of a process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(path), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        if how == "fork":
            process.wait()  # it holds the lock too until it has ended
        yield pid


def test_a_child_is_stuck_after_so_many_looks_without_a_beat() -> None:
    """30, one a second. Each beat begins anew. Who has not begun has more time."""
    assert (STUCK_LOOKS, LOOK_S) == (30, 1.0)
    heartbeat, watch = Heartbeat(), Watch()
    assert not any(watch.stuck(heartbeat.count) for _ in range(START_LOOKS - 1))
    heartbeat.beat()
    for _ in range(3):
        assert not any(watch.stuck(heartbeat.count) for _ in range(STUCK_LOOKS))
        heartbeat.beat()
    assert not any(watch.stuck(heartbeat.count) for _ in range(STUCK_LOOKS))
    assert watch.stuck(heartbeat.count)
    heartbeat.close()


def test_who_waits_for_the_machine_has_more_time() -> None:
    """Swapped out, or one of many on a core, a child goes on by itself; but not for ever."""
    heartbeat, watch = Heartbeat(), Watch()
    heartbeat.beat()
    assert not watch.stuck(heartbeat.count)
    looks = [watch.stuck(heartbeat.count, waits=True) for _ in range(5 * STUCK_LOOKS)]
    assert looks.index(True) == 4 * STUCK_LOOKS - 1
    heartbeat.close()


@pytest.mark.parametrize(
    ("state", "cpu_s", "waits"),
    [("D", 0.0, True), ("R", 0.0, True), ("R", 0.4, False), ("T", 0.0, False), ("S", 0.0, False)],
)
def test_waiting_for_the_machine(state: str, cpu_s: float, waits: bool) -> None:
    """One that is stopped does not, nor one that sleeps, nor one that runs in circles."""
    before, now = process.Activity("R", 7.0), process.Activity(state, 7.0 + cpu_s)
    assert process.waits_for_machine(before, now) == waits


def test_what_a_process_does_is_seen() -> None:
    """Its state and its CPU time, whatever its name holds."""
    program = (
        "import setproctitle; setproctitle.setproctitle('a) R 1'); print(flush=True)\nwhile 1: 1"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        first = process.activity_of(child.pid)
        until(lambda: process.activity_of(child.pid).cpu_s > first.cpu_s + 0.1, deadline_s=30.0)
        child.send_signal(signal.SIGSTOP)
        until(lambda: process.activity_of(child.pid).state == "T", deadline_s=30.0)
        child.kill()
    assert process.activity_of(child.pid).state == "unknown"


def test_a_child_that_never_begins_is_stuck() -> None:
    watch = Watch()
    assert [watch.stuck(0) for _ in range(START_LOOKS)].index(True) == START_LOOKS - 1


class Impatient(Watch):
    """Finds at the first look that a child is stuck."""

    def stuck(self, count: int, *, waits: bool = False) -> bool:
        return not waits


@pytest.mark.parametrize("stopped", [False, True])
def test_who_was_stopped_did_not_hang(stopped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that it had at hand is to blame for that."""
    monkeypatch.setattr(process, "Watch", Impatient)
    child = process.Child("while True: pass", module="timeit", beats=True)
    try:
        if stopped:
            os.kill(child.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)

        def has_ended() -> bool:
            child.kill_if_stuck()
            return child.wait(0.1)

        until(has_ended, deadline_s=30.0)
        assert child.hung is not stopped
    finally:
        assert child.reap() == -signal.SIGKILL


def test_a_supervisor_that_stood_still_blames_nobody(tmp_path: Path) -> None:
    """Looks are counted, not seconds: after an hour in which nobody ran there is one."""
    looks = []

    class Child:
        def kill_if_stuck(self) -> None:
            looks.append(now)

    with select.epoll() as epoll:
        children = Children(DataDir(tmp_path), epoll, None)
    children.running[0] = Child()  # type: ignore[assignment]
    for now in (100.0, 100.5, 101.0, 3701.0, 3701.1, 3702.0):
        children.kill_stuck(now)
    assert looks == [100.0, 101.0, 3701.0, 3702.0]


@pytest.mark.parametrize("how", ["", "fork"])
def test_the_holder_of_a_lock_is_named(tmp_path: Path, how: str) -> None:
    """The one that holds it now, though another took it, which has ended."""
    path = tmp_path / "lock"
    with holding(path, how) as pid, pytest.raises(LockHeld) as raised:
        wait_for_lock(path, 0)
    assert str(raised.value).startswith(f"{path} is still held after 0 s, by pid {pid} (")
    until(lambda: holders([path]) == [], deadline_s=30.0)  # a fork of the child ends after it


def test_who_has_the_file_open_does_not_hold_it(tmp_path: Path) -> None:
    """Nor who holds a file of the same name elsewhere."""
    (tmp_path / "other").mkdir()
    own, other = tmp_path / "lock", tmp_path / "other/lock"
    own.touch()
    with own.open(), holding(other) as pid:
        assert holders([own]) == []
        assert [holder.pid for holder in holders([own, other])] == [pid]


def test_a_message_names_few_of_many(tmp_path: Path) -> None:
    """Those that hold most come first."""
    locks = [FileLock(tmp_path / f"{n}.lock") for n in range(5)]
    with holding(tmp_path / "5.lock"):
        text = named(holders(tmp_path / f"{n}.lock" for n in range(6)))
    assert text.startswith(f"pid {os.getpid()} (")
    assert ", 5 times; pid " in text
    for lock in locks:
        lock.release()
    assert "cannot be looked into" in named([])


def test_a_foreign_process_is_named_and_left_alone(rig: Rig) -> None:
    """Only what says that it is a worker is killed for a worker's lock."""
    config = rig.config(rig.endpoint("a"))
    Supervisor(rig.data_dir, config).close()
    path = rig.data_dir / "workers/0/lock"
    with pytest.MonkeyPatch.context() as patched, holding(path) as pid:
        patched.setattr(preparation, "PATIENCE_S", 0.2)
        with pytest.raises(LockHeld, match=f"by pid {pid} "):
            Supervisor(rig.data_dir, config)
        os.kill(pid, 0)
        kill_holders(path, sys.executable)
        (_, status) = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def test_who_has_the_engine_is_named_whatever_an_old_file_says(rig: Rig) -> None:
    """engine.json may be a dead engine's."""
    rig.data_dir.mkdir()
    (rig.data_dir / "engine.json").write_text(json.dumps({"pid": 1}))
    with holding(rig.data_dir / "engine.lock") as pid, pytest.raises(EngineRunning) as raised:
        Supervisor(rig.data_dir, rig.config(rig.endpoint("a")))
    assert str(raised.value).startswith(f"an engine (pid {pid}) runs on")


def test_who_has_all_publishers_is_named(rig: Rig) -> None:
    Supervisor(rig.data_dir, rig.config(rig.endpoint("a"), max_publishers=1)).close()
    with connect(rig.data_dir), pytest.raises(TooManyPublishers, match=f"by pid {os.getpid()} "):
        connect(rig.data_dir)


def test_closing_ends_a_supervisor_that_is_stopped(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """SIGTERM does not reach it; its host must not wait for ever."""
    monkeypatch.setattr(engine, "CLOSE_GRACE_S", 0.2)
    own = rig.engine(rig.endpoint("a"), shutdown_timeout=seconds(0.1)).start()
    pid = supervisor_pid(rig.data_dir)
    os.kill(pid, signal.SIGSTOP)
    own.close()
    assert not Path(f"/proc/{pid}").exists()
    assert f"the supervisor (pid {pid}) does not end; it is killed" in caplog.text

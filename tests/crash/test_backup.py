"""A copy of a data directory goes on where the engine was, elsewhere too: docs/backup.md."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from crash.support import CONCURRENCY, FAILING, FINE, CrashStage, Row, until
from fluxhook import Endpoint, Engine, Retry, connect
from fluxhook.control import Selection
from fluxhook.stats import read_stats
from oracles.ring_file import FIELDS
from support.receiver import ReceiverProcess
from support.rig import Rig, seconds

#: tried again every half second, for as long as a test lasts
ALWAYS = Retry(max_attempts=10_000, initial_interval=seconds(0.5), max_interval=seconds(0.5))
FIRST, IN_RINGS, LATER = ([f"{name}-{n}" for n in range(50)] for name in ("first", "ring", "later"))
#: events of a load
COUNT = 4_000
Report = Callable[[Row], None]
COPIES = {
    "cp": "cp -a data restored",
    "tar": "tar -cf kept.tar -C data . && mkdir -m 700 restored && tar -xpf kept.tar -C restored",
}


def copied(data_dir: Path, command: str = COPIES["cp"]) -> Path:
    """Copy a data directory; return where the copy is."""
    subprocess.run(command, shell=True, cwd=data_dir.parent, check=True)
    return data_dir.parent / "restored"


@contextmanager
def frozen(stage: CrashStage) -> Iterator[None]:
    """Stop the host and the engine where they are, as a cgroup's freezer does."""
    pids = [host.process.pid or 0 for host in stage.hosts]
    pids += [stage.supervisor(), *stage.workers()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    until(lambda: all(map(is_stopped, pids)), "the stop")
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):  # it was killed meanwhile
                os.kill(pid, signal.SIGCONT)


def is_stopped(pid: int) -> bool:
    tasks = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


def taken_elsewhere(data_dir: Path) -> None:
    """Make it look as on another machine, where no ring is of this boot."""
    for ring in data_dir.glob("*/*/*.ring"):
        with ring.open("r+b") as file:
            file.seek(FIELDS["boot_id"][0])
            file.write(uuid.uuid4().bytes)
    with closing(sqlite3.connect(data_dir / "store.db")) as db, db:
        db.execute("UPDATE meta SET value = 'another' WHERE key = 'boot_id'")


@pytest.mark.parametrize("situation", ["steady", "failing", "elsewhere"])
def test_a_copy_of_a_frozen_engine(stage: CrashStage, situation: str, report: Report) -> None:
    """It was copied under load, and the engine and its directory were lost then: nothing that had been
    accepted is lost, and what is repeated was in flight."""
    if situation != "steady":
        stage.behave("main", FAILING)
    config = stage.config()
    host = stage.host(COUNT, config=config, rate=8_000)
    stage.start(host)
    stage.reach(COUNT // 2)
    with frozen(stage):
        restored = copied(stage.data_dir)
        accepted = stage.accepted
        for pid in (host.process.pid, stage.supervisor(), *stage.workers()):
            os.kill(pid or 0, signal.SIGKILL)
    host.kill()
    until(lambda: not read_stats(stage.data_dir).running, "the engine's end")
    assert stage.accepted == accepted
    stage.data_dir.rename(stage.directory / "lost")
    if situation == "elsewhere":
        taken_elsewhere(restored)
    stage.data_dir = restored
    stage.behave("main", FINE)
    stage.serve(config)
    report(stage.prove(bound=CONCURRENCY))


def test_the_frozen_engine_goes_on(stage: CrashStage, report: Report) -> None:
    """It is copied twice under load, and neither loses nor repeats anything over it, but requests
    that timed out meanwhile."""
    host = stage.host(COUNT, config=stage.config(), rate=8_000)
    stage.start(host)
    for i in range(2):
        stage.reach((i + 1) * COUNT // 3)
        with frozen(stage):
            subprocess.run(["rm", "-rf", stage.directory / "restored"], check=True)
            copied(stage.data_dir)
    report(stage.prove(bound=0))


@pytest.mark.parametrize("command", COPIES.values(), ids=COPIES)
def test_a_copy_of_a_stopped_engine(
    tmp_path: Path, receiver: ReceiverProcess, command: str
) -> None:
    """In another folder it delivers what was pending, in the store and in the rings, and only that;
    a dead letter is there to be replayed. The engine that was copied went on and delivered the same:
    exactly this is repeated, with the same ids, and what it accepted later is not known."""
    paths = {name: f"{tmp_path.name}{name}" for name in ("fine", "failing", "refusing")}
    rig = Rig(receiver, tmp_path / "data")

    def of(name: str) -> Endpoint:
        once = {"retry": Retry(max_attempts=1)} if name == "refusing" else {"retry": ALWAYS}
        url = f"{receiver.url}/{paths[name]}"
        return rig.endpoint(name, url=url, events=(f"copied.{name}",), **once)

    def engine() -> Engine:
        types = tuple(f"copied.{name}" for name in paths)
        return rig.engine(*map(of, paths), event_types=types).start()

    def emit(emit: Callable[..., int], name: str, ids: Iterable[str]) -> None:
        for id in ids:
            assert emit(f"copied.{name}", {}, event_id=id) == 1

    def ids(name: str) -> Counter[str]:
        return receiver.ids(f"/{paths[name]}")

    def idle() -> bool:
        return not read_stats(rig.data_dir).pending

    try:
        receiver.behave(FAILING, f"/{paths['failing']}")
        receiver.behave(FAILING, f"/{paths['refusing']}")
        first = engine()
        emit(first.emit, "fine", FIRST)
        emit(first.emit, "failing", FIRST)
        emit(first.emit, "refusing", FIRST)
        until(lambda: read_stats(rig.data_dir).endpoint("fine").delivered == len(FIRST))
        until(lambda: read_stats(rig.data_dir).endpoint("failing").stored == len(FIRST))
        until(lambda: read_stats(rig.data_dir).endpoint("refusing").dead == len(FIRST))
        first.close()
        with connect(rig.data_dir) as publisher:
            emit(publisher.emit, "fine", IN_RINGS)
        restored = copied(rig.data_dir, command)

        receiver.behave(FINE, f"/{paths['failing']}")
        second = engine()
        emit(second.emit, "fine", LATER)
        until(idle)
        second.close()
        assert ids("fine") == dict.fromkeys((*FIRST, *IN_RINGS, *LATER), 1)
        assert ids("failing") == dict.fromkeys(FIRST, 1)
        rig.data_dir.rename(tmp_path / "lost")

        rig.data_dir = restored
        third = engine()
        until(idle)
        assert ids("fine") == dict.fromkeys((*FIRST, *LATER), 1) | dict.fromkeys(IN_RINGS, 2)
        assert ids("failing") == dict.fromkeys(FIRST, 2)
        receiver.behave(FINE, f"/{paths['refusing']}")
        assert third.control.replay(Selection(endpoint="refusing")).done == len(FIRST)
        until(lambda: ids("refusing") == dict.fromkeys(FIRST, 1))
        until(idle)
        assert [e.balance for e in read_stats(restored).endpoints] == [0, 0, 0]
    finally:
        rig.close()

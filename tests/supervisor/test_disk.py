"""A disk that is full, or that nobody may write to. The functions without `test_` run where the data
directory has a disk of its own."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fluxhook import Config, Endpoint, Engine, EngineError, Retry, Size
from fluxhook.policy.clock import Clock
from fluxhook.receiver import Behaviour
from fluxhook.stats import read_stats
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.holders import holders
from fluxhook.transport.snapshot import Snapshot
from support import own_disk
from support.receiver import ReceiverProcess
from support.rig import NEVER, seconds, until

FAILS = Behaviour(fail_rate=1.0, fail_status=503)


@contextmanager
def receiving() -> Iterator[tuple[ReceiverProcess, Config]]:
    """A receiver with a good and a bad endpoint."""
    retry = Retry(schedule=(seconds(0.2),), jitter=0.0, max_attempts=1000)
    with ReceiverProcess() as receiver:
        receiver.behave(FAILS, "/bad")
        endpoints = tuple(
            Endpoint(
                name=name,
                url=f"{receiver.url}/{name}",
                events=(f"to.{name}",),
                signature="none",
                circuit_breaker=NEVER,
                retry=retry,
            )
            for name in ("good", "bad")
        )
        yield receiver, Config(
            endpoints=endpoints,
            event_types=("to.good", "to.bad"),
            workers=1,
            ring_bytes=Size(2**22),
            max_endpoints=16,
            allow_networks=("127.0.0.0/8",),
        )  # fmt: skip


def emit(engine: Engine, n: int) -> None:
    for _ in range(n):
        engine.emit("to.good", {})
        engine.emit("to.bad", {})


def fill_engine(config: Config, data_dir: Path) -> None:
    with Engine(config, data_dir) as engine:
        emit(engine, 10)
        until(lambda: engine.stats().endpoint("bad").stored == 10)
        until(lambda: engine.stats().endpoint("good").delivered == 10)


def lives_on(engine: Engine, delivered: int) -> None:
    """Check that what succeeds is delivered, and what fails waits."""
    emit(engine, 50)
    until(lambda: engine.stats().endpoint("good").delivered == delivered + 50)
    assert engine.stats().endpoint("bad").delivered == 0


def start_on_a_full_disk(disk: Path) -> None:
    data_dir = disk / "data"
    with receiving() as (receiver, config):
        fill_engine(config, data_dir)
        filler = own_disk.fill(disk)
        with Engine(config, data_dir) as engine:  # after a stop
            lives_on(engine, 10)
            assert own_disk.free_bytes(disk) == 0
            # engine.json, which has the process id, could not be written.
            (supervisor,) = holders([DataDir(data_dir).engine_lock])
            os.kill(supervisor.pid, signal.SIGKILL)  # and after a kill
            until(lambda: holders([DataDir(data_dir).engine_lock]) not in ([], [supervisor]))
            lives_on(engine, 60)
        other = msgspec.structs.replace(
            config,
            endpoints=(*config.endpoints, msgspec.structs.replace(config.endpoints[0], name="new")),
        )
        with pytest.raises(EngineError, match="disk is full"):
            Engine(other, data_dir).start()
        with Engine(config, data_dir) as engine:
            lives_on(engine, 110)
            filler.unlink()
            receiver.behave(None, "/bad")
            assert engine.drain(30)
            assert all(e.balance == 0 and e.dead == 0 for e in engine.stats().endpoints)
            assert engine.stats().endpoint("bad").delivered == 160
        assert receiver.distinct("/bad") == 160


def test_a_start_on_a_full_disk(tmp_path: Path) -> None:
    """Works where the files exist, after a stop and after a kill: what succeeds is delivered, what
    fails waits, and all of it goes on once there is room. A new endpoint is refused in one line."""
    own_disk.run("supervisor.test_disk", "start_on_a_full_disk", tmp_path / "disk")


def look_where_nothing_may_be_written(disk: Path) -> None:
    data_dir = disk / "data"
    with receiving() as (_, config):
        fill_engine(config, data_dir)
    for logs in ("kept", "gone"):  # as an older version leaves them
        if logs == "gone":
            own_disk.make(disk, "rw")
            for log in DataDir(data_dir).store_logs:
                log.unlink()
        own_disk.make(disk, "ro")
        stats = read_stats(data_dir)
        assert not stats.problems
        assert not stats.running
        figures = {e.name: (e.accepted, e.delivered, e.stored) for e in stats.endpoints}
        assert figures == {"good": (10, 10, 0), "bad": (10, 0, 10)}
        command = [sys.executable, "-m", "fluxhook", "status", "--data-dir", str(data_dir)]
        said = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
        assert "Traceback" not in said.stderr
        shown: Any = json.loads(said.stdout)
        assert {e["name"]: e["stored"] for e in shown["endpoints"]} == {"good": 0, "bad": 10}


def test_status_on_a_disk_that_is_read_only(tmp_path: Path) -> None:
    """Shows what it shows elsewhere."""
    own_disk.run("supervisor.test_disk", "look_where_nothing_may_be_written", tmp_path / "disk")


# ---- the files that every start writes ----------------------------------------------------------


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make the disk full: no file is made larger, and none is made."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def begin() -> None:
        monkeypatch.setattr("fluxhook.transport.snapshot.replace_file", fail)
        monkeypatch.setattr(os, "posix_fallocate", fail)

    return begin


def test_a_configuration_is_written_over_the_former_one(
    tmp_path: Path, full: Callable[[], None]
) -> None:
    """That is done if no file beside it finds room, as long as it fits; otherwise the former one
    stays, whole."""
    datadir = DataDir(tmp_path)
    first = Snapshot(
        version=1, workers=1, config=Config(), ids={"a": 1}, clock=Clock(seen_ns=10**18)
    )
    first.save(datadir)
    full()
    second = msgspec.structs.replace(first, version=2, clock=Clock())  # shorter
    second.save(datadir)
    assert Snapshot.load(datadir) == second
    large = msgspec.structs.replace(first, held={"a": "x" * 10**6})
    with pytest.raises(OSError, match="No space left"):
        large.save(datadir)
    assert Snapshot.load(datadir) == second

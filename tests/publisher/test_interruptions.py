"""A publisher that is interrupted anywhere, by code that emits or raises, neither hangs nor breaks."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from fluxhook import Endpoint, EngineError, Threshold, connect
from fluxhook._native.ring import Producer
from fluxhook.publisher import publisher as publisher_module
from fluxhook.publisher.routing import Routing
from fluxhook.stats import read_stats
from fluxhook.supervisor.supervisor import Supervisor
from fluxhook.transport.datadir import make_doorbell
from fluxhook.transport.snapshot import Snapshot
from publisher.interrupted import WORK, Host
from support.rig import Rig

SCRIPT = Path(__file__).with_name("interrupted.py")
DEADLINE_S = 100


@pytest.mark.parametrize(
    ("kind", "durability", "works"),
    [
        ("handler", "process", WORK),
        ("raises", "process", WORK),
        ("finalizer", "process", ("reconfigured",)),
        ("callback", "process", ("reconfigured",)),
        ("handler", "power", ("batch", "forked")),
        ("raises", "power", ("batch",)),
    ],
)
def test_every_line_may_be_interrupted(
    rig: Rig, endpoints: tuple[Endpoint, ...], kind: str, durability: str, works: tuple[str, ...]
) -> None:
    """By a signal's handler that emits or raises, by finalizers and weak references' callbacks: in an
    emit, a change of the configuration or of the rings, a batch, `close`, and after a fork. Whatever
    `emit` returned for was accepted once, the next emit works, and no slot stays locked."""
    config = rig.config(
        *endpoints,
        durability=durability,
        ring_bytes=2**20,
        queue_size=2000,
        max_publishers=8,
        drop_policy="newest",
    )
    Supervisor(rig.data_dir, config).close()
    for work in works:
        before = accepted(rig.data_dir)
        command = [sys.executable, str(SCRIPT), str(rig.data_dir), work, kind]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
        assert ended.returncode == 0, f"{work}: {ended.stderr}"
        lines, certain, uncertain = map(int, ended.stdout.split())
        assert lines > 5, work
        if work != "forked":  # whose children count for themselves
            grown = accepted(rig.data_dir) - before
            assert certain <= grown <= certain + 2 * uncertain, work


def accepted(data_dir: Path) -> int:
    return sum(endpoint.accepted for endpoint in read_stats(data_dir).endpoints)


@pytest.fixture
def endpoints(rig: Rig) -> tuple[Endpoint, ...]:
    return (
        rig.endpoint("all"),
        rig.endpoint("picky", events=("order.filtered",), where=("n == 1",)),
    )


@pytest.fixture
def data_dir(rig: Rig) -> Path:
    Supervisor(rig.data_dir, rig.config(rig.endpoint("a"), drop_policy="newest")).close()
    return rig.data_dir


def without_descriptors(_: Host) -> AbstractContextManager[None]:
    free = os.dup(0)  # the lowest there is
    os.close(free)
    return limited(resource.RLIMIT_NOFILE, free)


def without_room(_: Host) -> AbstractContextManager[None]:
    return limited(resource.RLIMIT_FSIZE, 4096)


@contextlib.contextmanager
def limited(kind: int, limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


@contextlib.contextmanager
def replaced(path: Path, make: Callable[[Path], None] | None) -> Iterator[None]:
    aside = path.with_name("aside")
    path.rename(aside)
    if make is not None:
        make(path)
    try:
        yield
    finally:
        if make is not None:
            path.rmdir()
        aside.rename(path)


def without_config(host: Host) -> AbstractContextManager[None]:
    return replaced(host.datadir.snapshot, None)


def folder_for_config(host: Host) -> AbstractContextManager[None]:
    return replaced(host.datadir.snapshot, Path.mkdir)


def without_bell(host: Host) -> AbstractContextManager[None]:
    return replaced(host.datadir.doorbell(0), None)


def without_thresholds(host: Host) -> AbstractContextManager[None]:
    return replaced(host.datadir.thresholds, None)


@pytest.mark.parametrize(
    ("trouble", "piece"),
    [
        (without_descriptors, "Too many open files; raise this process's limit"),
        (without_room, "rings/0/1.ring cannot be used: File too large"),
        (without_config, "no fluxhook engine was ever started"),
        (folder_for_config, "config.json cannot be used: Is a directory"),
        (without_bell, "workers/0/bell cannot be used: No such file or directory; the data"),
        (without_thresholds, "thresholds cannot be used: No such file"),
    ],
)
def test_trouble_with_a_file_is_an_engine_error(
    rig: Rig, data_dir: Path, trouble: Callable[[Host], AbstractContextManager[None]], piece: str
) -> None:
    """It names the file and what helps; each emit says so as long as it lasts, and the next one after
    it works, by the configuration that could not be followed."""
    host = Host(str(data_dir))
    host.emit()
    (data_dir / "workers/1").mkdir()
    make_doorbell(data_dir / "workers/1/bell")
    picky = rig.endpoint("a", where=("n == 2",), threshold=Threshold.parse("1/h"))
    host.publish(drop_policy="oldest", endpoints=(picky,))
    snapshot = Snapshot.load(host.datadir)
    msgspec.structs.replace(snapshot, workers=2).save(host.datadir)
    gc.collect()
    open_before = len(os.listdir("/proc/self/fd"))
    with trouble(host):
        for _ in range(3):
            with pytest.raises(EngineError, match=re.escape(piece)):
                host.publisher.emit("order.paid", {"n": 2})
    # Two rings and their bells, where these were not the trouble.
    assert len(os.listdir("/proc/self/fd")) <= open_before + 4, (
        "a failed attempt leaves nothing open"
    )
    emitted = [host.publisher.emit("order.paid", {"n": n}) for n in (2, 2, 3)]
    assert emitted == [0, 1, 0], "the second of them exceeds the threshold, the third is filtered"
    host.publisher.close()


@pytest.mark.parametrize("kind", ["attach", "fork"])
def test_trouble_while_attaching(data_dir: Path, kind: str) -> None:
    """To connect, and to attach anew after a fork, fail the same way, and take no slot."""
    host = Host(str(data_dir))
    if kind == "attach":
        with without_descriptors(host), pytest.raises(EngineError, match="Too many open files"):
            connect(data_dir)
        connect(data_dir).close()
        return

    def in_child() -> None:
        for _ in range(3):
            with without_descriptors(host), pytest.raises(EngineError, match="Too many open files"):
                host.emit()
        assert host.publisher.emit("order.paid", {}) == 1

    child = os.fork()
    if child == 0:
        try:
            in_child()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    host.publisher.close()


def test_a_disk_that_fails_to_sync(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `durability: power` emit says so; the event stays accepted, and the next sync, which works,
    covers it."""
    config = rig.config(rig.endpoint("a"), durability="power")
    Supervisor(rig.data_dir, config).close()
    routings: list[Routing] = []

    def routed(*given: Any, **more: Any) -> Routing:
        routings.append(Routing(*given, **more))
        return routings[-1]

    monkeypatch.setattr(publisher_module, "Routing", routed)
    publisher = connect(rig.data_dir)
    synced: list[bool] = []

    class Disk:
        fails = True

        def sync(self) -> None:
            synced.append(not self.fails)
            if self.fails:
                raise OSError(errno.EIO, os.strerror(errno.EIO), "0.ring")

    assert publisher.emit("order.paid", {}) == 1
    disk = Disk()
    (routing,) = routings
    routing.rings.append(cast(Producer, disk))
    for call in (
        lambda: publisher.emit("order.paid", {}),
        lambda: publisher.accept("order.paid", {}),
        lambda: publisher.emit_many([("order.paid", {})]),
        publisher.sync,
    ):
        monkeypatch.setattr(publisher_module, "least_backlog", lambda rings: 0)
        with pytest.raises(
            EngineError, match=r"0\.ring cannot be used: Input/output error; check its"
        ):
            call()
    assert len(synced) == 4, "also where nothing new was accepted: the former was not synced"
    disk.fails = False
    publisher.sync()
    publisher.sync()
    assert synced[4:] == [True], "one covers all that was accepted"
    routing.rings.pop()
    publisher.close()
    assert accepted(rig.data_dir) == 4


def test_a_child_may_sync_what_its_parent_was_syncing(rig: Rig) -> None:
    """A lock that another thread held at the fork does not hold the child."""
    Supervisor(rig.data_dir, rig.config(rig.endpoint("a"), durability="power")).close()
    publisher = connect(rig.data_dir)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with publisher._own_locks.sync, publisher._own_locks.change:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        publisher.emit_many([])
        os._exit(publisher.emit("order.paid", {}) - 1)
    assert os.waitpid(child, 0)[1] == 0
    done.set()
    thread.join()
    publisher.close()


def test_close_while_others_emit(data_dir: Path) -> None:
    """Whichever line they are at, they get an EngineError that says so."""
    publisher = connect(data_dir)
    errors: list[BaseException] = []

    def emit(type: str) -> None:
        try:
            while True:
                publisher.emit(type, {"n": 1})
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=emit, args=(f"order.t{i}",)) for i in range(3)]
    for thread in threads:
        thread.start()
    publisher.close()
    for thread in threads:
        thread.join(20)
    assert [(type(error), str(error)) for error in errors] == [
        (EngineError, "this publisher is closed")
    ] * 3

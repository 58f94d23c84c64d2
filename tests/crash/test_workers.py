"""Another number of workers at a reload: no event is lost, ordered endpoints keep their order, and
nothing is delivered twice but what a killed process had in flight."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable

import pytest

from crash.support import CONCURRENCY, EVENTS, FINE, HANGING, SIDE, CrashStage, Row, until
from fluxhook import Config, Duration
from fluxhook.receiver import Behaviour
from fluxhook.stats import read_stats
from fluxhook.transport.datadir import DataDir
from fluxhook.transport.snapshot import Snapshot

Report = Callable[[Row], None]

#: of each test; they need no more for what they are about
COUNT = EVENTS // 2


def config(stage: CrashStage, workers: int, *more: str) -> Config:
    """One endpoint that any worker serves, and those that only one does: in order, and with few
    connections."""
    lines = (
        stage.endpoint("line", ordered=True),
        stage.endpoint("keyed", ordered=True, order_key="key"),
        stage.endpoint("few", concurrency=1),
    )
    return stage.config(
        stage.endpoint("main"),
        *lines,
        *map(stage.endpoint, more),
        workers=workers,
        queue_size=EVENTS,
        shutdown_timeout=Duration.parse("10s"),
    )


def change(stage: CrashStage, workers: int) -> None:
    """Ask for so many workers, and return once they are in force."""
    stage.configure(config(stage, workers))
    os.kill(stage.supervisor(), signal.SIGHUP)
    until(lambda: in_force(stage) == workers, f"{workers} workers")


def in_force(stage: CrashStage) -> int:
    return Snapshot.load(DataDir(stage.data_dir)).workers


def wanted(stage: CrashStage) -> dict[str, set[int]]:
    return {name: side(stage) for name in ("line", "keyed", "few")}


def side(stage: CrashStage) -> set[int]:
    """Return what was accepted for the endpoints that get a part of the events."""
    return {n for h in stage.hosts for p in h.progress for n in p.answers() if n % SIDE == 0}


def assert_order(stage: CrashStage, name: str, key: Callable[[int], int]) -> None:
    """Each event of a publisher came, for the first time, after those before it with the same key."""
    arrived = list(stage.ids(name))
    for host in stage.hosts:
        for progress in host.progress:
            load = progress.load
            mine = [n for n in arrived if load.first <= n < load.first + load.count]
            for _, same in itertools.groupby(sorted(mine, key=key), key=key):
                ns = list(same)
                assert ns == sorted(ns), f"{name}: out of order"


def test_workers_change_under_load(stage: CrashStage, report: Report) -> None:
    """Publishers go on, deliveries fail and are tried again, and each change is in force at once.
    Nothing is delivered twice."""
    stage.behave("main", Behaviour(fail_rate=0.05))
    stage.behave("line", Behaviour(fail_rate=0.02))
    stage.behave("keyed", Behaviour(fail_rate=0.1))
    stage.serve(config(stage, 2))
    host = stage.host(COUNT // 2, COUNT // 2, rate=1_500)
    stage.start(host)
    counts = [4, 1, 3, 2, 5]
    for i, workers in enumerate(counts, start=1):
        stage.reach(i * COUNT // (len(counts) + 1))
        change(stage, workers)
        assert len(stage.workers(workers)) == workers
    stage.settle()
    for name in ("line", "keyed"):
        assert_order(stage, name, lambda n: 0 if name == "line" else n % 64)  # noqa: B023
    report(stage.prove(bound=0, wanted=wanted(stage)))


@pytest.mark.parametrize("killed", ["worker", "supervisor", "all"])
def test_kills_while_the_workers_change(stage: CrashStage, killed: str, report: Report) -> None:
    """While those that have to leave wait for a receiver, a process is killed; the one that follows
    has the new number."""
    stage.behave("line", Behaviour(fail_rate=0.02))
    stage.serve(config(stage, 3))
    host = stage.host(COUNT // 2, rate=1_500)
    stage.start(host)
    for i, workers in enumerate((1, 4, 2), start=1):
        stage.reach(i * COUNT // 8)
        before = stage.workers(in_force(stage))
        stage.behave("main", HANGING)
        until(lambda: stage.receiver.state().open >= 2, "requests that hang")
        stage.configure(config(stage, workers))
        os.kill(stage.supervisor(), signal.SIGHUP)
        if killed == "worker":
            os.kill(before[i % len(before)], signal.SIGKILL)
            stage.kills += 1
        elif killed == "supervisor":
            stage.kill_supervisor()
        else:
            stage.kill_everything(len(before), spare=stage.hosts)
        stage.behave("main", FINE)
        if killed != "worker":
            stage.serve(config(stage, workers))
        until(lambda workers=workers: in_force(stage) == workers, f"{workers} workers")  # type: ignore[misc]
    stage.settle()
    assert_order(stage, "line", lambda n: 0)
    # What hung when it was aborted may have arrived.
    report(stage.prove(bound=6 * CONCURRENCY, wanted=wanted(stage)))


def test_a_receiver_that_hangs_holds_up_no_other(stage: CrashStage, report: Report) -> None:
    """More workers are there at once. Fewer are once what the others have begun has ended, and until
    then those that stay deliver."""
    stage.behave("hangs", HANGING)
    slow = Duration.parse("5s")

    def with_slow(workers: int) -> Config:
        return stage.config(
            stage.endpoint("main"), stage.endpoint("hangs", timeout=slow), workers=workers
        )

    stage.serve(with_slow(2))
    host = stage.host(COUNT, rate=2_000)
    stage.start(host)
    until(lambda: stage.receiver.state().open >= 2, "requests that hang")
    stage.reload(with_slow(4))
    assert len(stage.workers(4)) == 4
    version = read_stats(stage.data_dir).version
    stage.configure(with_slow(2))
    os.kill(stage.supervisor(), signal.SIGHUP)
    arrived = len(stage.ids("main"))
    until(lambda: len(stage.ids("main")) > arrived + 500, "deliveries while others leave")
    stage.behave("hangs", FINE)
    until(lambda: read_stats(stage.data_dir).version > version, "the reload")
    stage.settle()
    report(stage.prove(bound=CONCURRENCY, wanted={"hangs": side(stage)}))

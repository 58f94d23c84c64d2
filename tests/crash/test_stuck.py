"""A child that is alive and does nothing is replaced, and gives up all that it has."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable

from crash.support import CONCURRENCY, FINE, HANGING, SIDE, CrashStage, Row, until
from fluxhook import Admin, Breaker, Duration

#: looks, one a second, after which a child is stuck; 30 outside of tests
LOOKS = 3


def test_stopped_worker(stage: CrashStage, report: Callable[[Row], None]) -> None:
    """Deliveries that it had taken are made by its successor, and nothing twice but what was in
    flight."""
    stage.serve(stage.config(), stuck_looks=LOOKS)
    host = stage.host(8_000, rate=2_000)
    stage.start(host)
    stage.reach(1_000)
    stopped = stage.workers()[0]
    os.kill(stopped, signal.SIGSTOP)
    until(lambda: not stage.is_ours(stopped), "the end of the stopped worker")
    stage.kills += 1
    report(stage.prove(bound=CONCURRENCY // 2))


def test_probe(stage: CrashStage, report: Callable[[Row], None]) -> None:
    """An endpoint whose probe a stopped worker holds is probed again, although nothing new comes."""
    stage.behave("side", HANGING)
    side = stage.endpoint(
        "side",
        timeout=Duration.parse("2s"),
        circuit_breaker=Breaker(failure_threshold=1, reset_timeout=Duration.parse("200ms")),
    )
    stage.serve(stage.config(stage.endpoint("main"), side), stuck_looks=LOOKS)
    host = stage.host(SIDE)
    stage.start(host)
    until(lambda: stage.state("side") == "half-open", "a probe")
    until(lambda: stage.stats("main").delivered == SIDE, "nothing else under way")
    for worker in stage.workers():
        os.kill(worker, signal.SIGSTOP)
        stage.kills += 1
    assert stage.state("side") == "half-open"
    stage.behave("side", FINE)
    report(stage.prove(bound=0))


def test_orphan(stage: CrashStage, report: Callable[[Row], None]) -> None:
    """A worker that was stopped before its supervisor died keeps the next engine from nothing."""
    stage.serve(stage.config())
    host = stage.host(4_000, rate=2_000)
    stage.start(host)
    stage.reach(1_000)
    stopped = stage.workers()[0]
    os.kill(stopped, signal.SIGSTOP)
    stage.kill_supervisor()
    stage.serve(stage.config(), stuck_looks=LOOKS)
    assert not stage.is_ours(stopped)
    report(stage.prove(bound=CONCURRENCY))


def test_admin(stage: CrashStage) -> None:
    """The admin process is watched like a worker."""
    config = stage.config(admin=Admin(listen="127.0.0.1:0", dashboard=False))
    stage.serve(config, sidecar="fluxhook.admin", stuck_looks=LOOKS)

    def admin() -> int:
        with contextlib.suppress(OSError, ValueError):
            return int(json.loads((stage.data_dir / "admin.json").read_text())["pid"])
        return 0

    until(admin, "the admin process")
    stopped = admin()
    os.kill(stopped, signal.SIGSTOP)
    until(lambda: admin() not in (0, stopped), "its successor")

"""The scheduler stalls: its process is stopped, as it may be by a disk that hangs for long."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fluxhook import Breaker, Engine, Retry
from fluxhook._native import ring
from fluxhook.receiver import Behaviour
from support.rig import NEVER, Rig, seconds, supervisor_pid, until

#: bodies of which an outbox, 16 MiB, holds about 270
BIG = {"x": "x" * 60_000}
FILLING = 400
ONE = Breaker(failure_threshold=1, reset_timeout=seconds(0.1))
PATIENT = Retry(max_attempts=1000, initial_interval=seconds(0.05), max_interval=seconds(0.2))


@contextmanager
def stalled(engine: Engine) -> Iterator[None]:
    """Its supervisor, and with it the scheduler, stands still."""
    pid = supervisor_pid(engine.data_dir)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def start(rig: Rig, trouble: str) -> Engine:
    """An engine with an endpoint whose events all have to go to the store, and a healthy one."""
    troubles: dict[str, dict[str, Any]] = {
        "failing": {"circuit_breaker": NEVER},
        "breaker": {"circuit_breaker": ONE},
        "paused": {},
        "recorded": {"record": "all"},
        "ordered": {"ordered": True, "on_head_failure": "block"},
    }
    options = troubles[trouble]
    if trouble in ("failing", "breaker", "ordered"):
        rig.receiver.behave(Behaviour(fail_rate=1.0), "/bad")
    bad = rig.endpoint("bad", events=("x.bad",), retry=PATIENT, **options)
    good = rig.endpoint("good", events=("x.good",))
    engine = rig.engine(
        bad, good, event_types=("x.bad", "x.good"), ring_bytes=2**26, queue_size=20_000
    ).start()
    if trouble == "paused":
        engine.control.pause("bad")
    return engine


def fill(rig: Rig, engine: Engine) -> None:
    """Has the outbox filled, so that the worker cannot report all."""
    for _ in range(FILLING):
        assert engine.emit("x.bad", BIG) == 1
    outbox = ring.Consumer(str(rig.data_dir / "workers/0/outbox.ring"))
    until(lambda: outbox.load > 0.99, deadline_s=60)
    outbox.close()


@pytest.mark.parametrize("trouble", ["failing", "breaker", "paused", "recorded", "ordered"])
def test_endpoints_that_need_no_store_go_on(rig: Rig, trouble: str) -> None:
    """However long it takes, whatever fills the outbox; what that is keeps its place in its ring."""
    engine = start(rig, trouble)
    with stalled(engine):
        fill(rig, engine)
        for n in range(3000):
            assert engine.emit("x.good", {"n": n}) == 1
        rig.receiver.wait_for(3000, "/good", 60)
    if trouble == "paused":
        engine.control.resume("bad")
    rig.receiver.behave(None, "/bad")
    rig.receiver.wait_for(FILLING, "/bad", 60)
    assert engine.drain(30)
    stats = engine.stats()
    assert all(endpoint.balance == 0 for endpoint in stats.endpoints)
    assert stats.endpoint("good").delivered == rig.receiver.total("/good") == 3000


def test_nothing_is_begun_whose_end_needs_the_store(rig: Rig) -> None:
    """It would be delivered again if the worker ended before it can report: a supervisor that is killed
    while it stalls makes as many duplicates as were in flight."""
    engine = start(rig, "recorded")
    with stalled(engine):
        fill(rig, engine)
        engine.emit("x.good", {})
        rig.receiver.wait_for(1, "/good")
        os.kill(supervisor_pid(rig.data_dir), signal.SIGKILL)
    rig.receiver.wait_for(FILLING, "/bad", 60)
    assert engine.drain(30)
    concurrency = engine.config.endpoints[0].concurrency
    assert rig.receiver.total("/bad") <= FILLING + concurrency


def test_a_retry_that_is_at_hand_waits_and_keeps_nobody(rig: Rig) -> None:
    """A retry that came from the store before the outbox was full goes out when there is room again;
    fresh events of the same endpoint need not wait for it."""
    engine = start(rig, "paused")
    rig.receiver.behave(Behaviour(fail_first=50), "/good")
    for n in range(50):
        engine.emit("x.good", {"n": n})
    until(lambda: engine.stats().endpoint("good").failed_attempts >= 50)
    with stalled(engine):
        fill(rig, engine)
        for n in range(50, 500):
            engine.emit("x.good", {"n": n})
        until(lambda: rig.receiver.distinct("/good") >= 450, deadline_s=30)
    rig.receiver.wait_for(500, "/good", 30)
    assert rig.receiver.total("/good") == 500

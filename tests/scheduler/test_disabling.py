"""Endpoints that get nothing more: their receiver said so, or they did nothing but fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from fluxhook import Config, Duration, Endpoint
from fluxhook import control as c
from fluxhook.receiver import Behaviour
from fluxhook.stats import read_stats
from fluxhook.transport import datadir as d
from fluxhook.worker.admission import Admission
from fluxhook.worker.endpoint_queue import EndpointQueue
from support.rig import NEVER, Rig, seconds, until
from support.scheduler_harness import S, SchedulerHarness
from support.scheduler_parts import AHEAD_NS, NOW, Parts
from support.store_rows import dead_letters

DISABLED = "webhook.endpoint.disabled"
HOUR = Duration.parse("1h")
OPS = Endpoint(
    name="ops",
    url="https://ops.example/",
    signature="none",
    disable_after=HOUR,
    circuit_breaker=NEVER,
)
LOG = Endpoint(name="log", url="https://log.example/", signature="none", events=(DISABLED,))


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SchedulerHarness]:
    with SchedulerHarness(tmp_path / "data", OPS, LOG) as harness:
        yield harness


class Worker:
    """What a worker does with the words that all of them share."""

    def __init__(self, harness: SchedulerHarness) -> None:
        self.harness = harness
        self.admission = Admission(harness.words)
        # all that the admission asks of it
        queue = SimpleNamespace(
            id=0, endpoint=OPS, probe_timeout_ns=S, failure_threshold=NEVER.failure_threshold
        )
        self.queue = cast(EndpointQueue, queue)
        self.n = 0

    def fail(self, cause: str = "server_error", status: int = 503) -> None:
        self.n += 1
        self.admission.failure(self.queue, self.harness.now_ns, 0)
        self.harness.fail(self.harness.fresh(f"evt_{self.n}"), "dead", cause, status)

    def succeed(self) -> None:
        self.admission.success(self.queue, self.harness.now_ns, 0)


def is_disabled(harness: SchedulerHarness, endpoint: int = 0) -> bool:
    return harness.store.endpoints()[endpoint].disabled_ns is not None


def ask_to_disable(harness: SchedulerHarness) -> None:
    """A reload after which a 410 disables."""
    ops = msgspec.structs.replace(OPS, disable_on_gone=True)
    harness.supervisor.live.load(Config(endpoints=(ops, LOG), workers=1))


# ---- when ----------------------------------------------------------------------------------


def test_after_so_long_of_nothing_but_failure(harness: SchedulerHarness) -> None:
    """`disable_after` counts from the first failure; the event tells since when, and why."""
    worker = Worker(harness)
    begun_ns = harness.now_ns
    worker.fail()
    harness.now_ns += HOUR.ns - S
    worker.fail()
    assert not is_disabled(harness)
    assert harness.emitted(DISABLED) == []
    harness.now_ns += S
    worker.fail()
    row = harness.store.endpoints()[0]
    assert row.disabled_ns == harness.now_ns
    assert row.disabled_reason == "Every attempt has failed for 1h; the last one: server_error."
    (event,) = harness.emitted(DISABLED)
    assert (event["endpoint"], event["reason"]) == ("ops", row.disabled_reason)
    assert read_stats(harness.path).endpoint("ops").failing_since_ns == begun_ns


def test_a_success_in_between_begins_anew(harness: SchedulerHarness) -> None:
    """However long it has failed before, and after."""
    worker = Worker(harness)
    for _ in range(5):
        worker.fail()
        harness.now_ns += HOUR.ns - S
        worker.fail()
        worker.succeed()
        assert read_stats(harness.path).endpoint("ops").failing_since_ns is None
    assert not is_disabled(harness)


def test_a_deed_that_is_not_the_endpoints_does_not_count(harness: SchedulerHarness) -> None:
    """An attempt that was ours to fail, or that says nothing of the endpoint, is no failure of its."""
    worker = Worker(harness)
    for _ in range(3):
        worker.admission.release(worker.queue, harness.now_ns, 0)
        harness.fail(harness.fresh("evt"), "retry", "egress_denied", 0)
        harness.now_ns += HOUR.ns
    assert not is_disabled(harness)


def test_without_the_option_never(tmp_path: Path) -> None:
    """An endpoint that fails for a year is tried for a year."""
    with SchedulerHarness(
        tmp_path / "data", Endpoint(name="ops", url="https://a.example/", signature="none")
    ) as harness:
        worker = Worker(harness)
        for _ in range(3):
            worker.fail()
            harness.now_ns += 365 * 24 * HOUR.ns
        assert not is_disabled(harness)


def test_a_success_that_overtakes_a_failure(harness: SchedulerHarness) -> None:
    """Another worker's success may clear the word just after a first failure set it: then the next
    failure sets it, and nothing is ever measured from before the success."""
    worker = Worker(harness)
    words = harness.words
    worker.fail()
    # the success of another worker, cut in two by a failure: its breaker is at rest already
    words.store(0, d.BREAKER, 0)
    first_ns = harness.now_ns
    harness.now_ns += HOUR.ns
    worker.fail()
    assert words.load(0, d.FAILING) == harness.now_ns > first_ns
    words.store(0, d.FAILING, 0)  # the second half
    harness.now_ns += S
    worker.fail()
    assert words.load(0, d.FAILING) == harness.now_ns
    assert not is_disabled(harness)


def test_gone_disables_at_once(harness: SchedulerHarness) -> None:
    """410 where `disable_on_gone` is set, with or without `disable_after`; in one batch it is reported
    once."""
    ask_to_disable(harness)
    for i in range(3):
        delivery = harness.fresh(f"evt_{i}")
        harness.reporter.report(delivery, "dead", "gone", harness.attempt("gone", 410))
    harness.step()
    assert is_disabled(harness)
    (event,) = harness.emitted(DISABLED)
    assert "410" in event["reason"]


def test_gone_is_tried_again_by_default(harness: SchedulerHarness) -> None:
    """FluxGate retries every 4xx, and FluxMQ whatever is not 2xx: 410 disables nobody unasked."""
    harness.fail(harness.fresh("evt"), "retry", "gone", 410)
    assert not is_disabled(harness)
    assert harness.emitted(DISABLED) == []
    (delivery,) = harness.sleep_until_due()
    assert delivery.attempts == 1


def test_its_own_disabling_is_not_told_of(tmp_path: Path) -> None:
    """An endpoint that hears of disabled ones may be disabled itself: that event ends as a dead
    letter and makes no further one."""
    with SchedulerHarness(
        tmp_path / "data", msgspec.structs.replace(LOG, disable_on_gone=True)
    ) as harness:
        harness.fail(harness.fresh("evt", DISABLED), "dead", "gone", 410)
        assert is_disabled(harness)
        assert len(harness.emitted(DISABLED)) == 1
        assert harness.emitted("webhook.delivery.failed") == []


# ---- what follows --------------------------------------------------------------------------


def test_what_waits_for_it_becomes_dead_letters(harness: SchedulerHarness) -> None:
    """With the cause `disabled`, once the snapshot says so; a resume lets them be replayed."""
    ask_to_disable(harness)
    worker = Worker(harness)
    harness.fail(harness.fresh("evt_waits"))
    worker.fail("gone", 410)
    harness.supervisor.housekeep(1e9)
    harness.step()
    dead = {row.event_id: row.cause for row in dead_letters(harness.store)}
    assert dead == {"evt_waits": "disabled", "evt_1": "gone"}
    assert read_stats(harness.path).endpoint("ops").state == "disabled"

    harness.ask(c.Resume("ops"), c.Done)
    stats = read_stats(harness.path).endpoint("ops")
    assert (stats.state, stats.disabled_reason, stats.failing_since_ns) == ("active", "", None)
    assert harness.ask(c.Replay([row.id for row in dead_letters(harness.store)]), c.Done).count == 2
    assert len(harness.due()) == 2


def test_after_a_resume_failures_count_anew(harness: SchedulerHarness) -> None:
    """Otherwise the first one would disable it again."""
    worker = Worker(harness)
    worker.fail()
    harness.now_ns += HOUR.ns
    worker.fail()
    assert is_disabled(harness)
    harness.supervisor.housekeep(1e9)
    harness.ask(c.Resume("ops"), c.Done)
    worker.fail()
    harness.now_ns += HOUR.ns - S
    worker.fail()
    assert not is_disabled(harness)
    harness.now_ns += S
    worker.fail()
    assert is_disabled(harness)


@pytest.mark.parametrize("how", ["reload", "restart"])
def test_a_reload_gives_another_chance(harness: SchedulerHarness, how: str) -> None:
    """Loading a configuration is the operator's word that it is to be used, and not for one failure
    only."""
    worker = Worker(harness)
    worker.fail()
    harness.now_ns += HOUR.ns
    worker.fail()
    harness.supervisor.housekeep(1e9)
    assert read_stats(harness.path).endpoint("ops").state == "disabled"
    now_ns = harness.now_ns
    if how == "reload":
        harness.supervisor.live.load(Config(endpoints=(OPS, LOG), workers=1))
    else:
        harness.reopen()
        worker = Worker(harness)
    harness.now_ns = now_ns + HOUR.ns
    assert read_stats(harness.path).endpoint("ops").state == "active"
    worker.n = 10
    worker.fail()
    assert not is_disabled(harness)


# ---- the part alone ------------------------------------------------------------------------


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    with Parts(tmp_path / "alone", OPS, LOG) as parts:
        yield parts


def test_it_is_disabled_after_its_reports_are_committed(parts: Parts) -> None:
    """Once, for the first reason, until the snapshot says so; then it may fail anew."""
    disabling = parts.disabling
    parts.words.matrix.store(0, d.FAILING, NOW - HOUR.ns)
    for cause in ("server_error", "timeout"):
        disabling.attempt_failed(0, OPS, cause, NOW)
    assert not parts.store.endpoints()[0].disabled_ns
    assert not disabling.take_disabled()
    assert disabling.disable(NOW) is False
    row = parts.store.endpoints()[0]
    assert (row.disabled_ns, row.disabled_reason.endswith("server_error.")) == (
        NOW + AHEAD_NS, True,
    )  # fmt: skip
    assert parts.told.disabled == [("ops", row.disabled_reason, NOW - HOUR.ns + AHEAD_NS)]
    disabling.attempt_failed(0, OPS, "timeout", NOW)
    assert not disabling.to_disable
    assert (disabling.take_disabled(), disabling.take_disabled()) == (True, False)


def test_what_begins_anew_is_not_disabled(parts: Parts) -> None:
    """The operator's word comes after the reports that led to it."""
    parts.words.matrix.store(0, d.FAILING, NOW - HOUR.ns)
    parts.words.matrix.store(0, d.BREAKER, 3)
    parts.disabling.attempt_failed(0, OPS, "timeout", NOW)
    parts.disabling.begin_anew(0)
    parts.disabling.disable(NOW)
    assert not parts.store.endpoints()[0].disabled_ns
    assert (parts.words.failing_ns(0), parts.words.breaker(0).value) == (0, 0)


# ---- end to end ----------------------------------------------------------------------------


def test_disabled_told_of_resumed(rig: Rig) -> None:
    """A receiver that does nothing but fail is disabled; those who asked hear of it; nothing more is
    sent there; after a resume deliveries go on."""
    rig.receiver.behave(Behaviour(status=503), "/bad")
    bad = rig.endpoint("bad", events=("a.*",), disable_after=seconds(1))
    with rig.engine(bad, rig.endpoint("log", events=(DISABLED,))) as engine:

        def emit_until_disabled() -> bool:
            engine.emit("a.b", {})
            return engine.stats().endpoint("bad").state == "disabled"

        until(emit_until_disabled)
        until(lambda: rig.receiver.total("/log") == 1)
        (request,) = rig.receiver.requests("/log")
        data = json.loads(request.body)["data"]
        assert data["endpoint"] == "bad"
        assert data["reason"].startswith("Every attempt has failed for 1s")

        until(lambda: engine.emit("a.b", {}) == 0)
        assert engine.drain(5)
        stats = engine.stats().endpoint("bad")
        assert (stats.delivered, stats.balance) == (0, 0)
        assert stats.dead == stats.accepted

        rig.receiver.behave(Behaviour(), "/bad")
        engine.control.resume("bad")
        assert engine.emit("a.b", {}) == 1
        rig.receiver.wait_for(1, "/bad")
        step, replayed = c.Step(0, 0), 0
        while step.after is not None:
            step = engine.control.replay(c.Selection(endpoint="bad", after=step.after, limit=100))
            replayed += step.done
        assert replayed == stats.dead
        assert engine.drain(5)
        stats = engine.stats().endpoint("bad")
        assert (stats.state, stats.dead, stats.delivered) == ("active", 0, stats.accepted)
        assert stats.balance == 0

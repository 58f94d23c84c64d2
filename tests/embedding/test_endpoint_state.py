"""When the next attempt is, as every view shows it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxhook import Breaker, Duration, Endpoint
from fluxhook import control as c
from fluxhook.admin.dashboard.schedule import read_schedule
from fluxhook.admin.service import Service
from fluxhook.cli.status_view import stats_of
from fluxhook.endpoint_state import EndpointState, StateName
from fluxhook.policy import breaker
from fluxhook.stats import read_stats
from fluxhook.store.audit import timestamp
from fluxhook.transport import datadir as d
from support.scheduler_harness import HOUR, S, SchedulerHarness

OPS = Endpoint(
    name="ops",
    url="https://ops.example/",
    signature="none",
    record="all",
    circuit_breaker=Breaker(reset_timeout=Duration(2 * HOUR)),
)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SchedulerHarness]:
    with SchedulerHarness(tmp_path / "data", OPS) as harness:
        harness.now_ns = time.time_ns()  # views go by the real one
        yield harness


def open_breaker(harness: SchedulerHarness, opened_ns: int) -> int:
    """Return when it lets a probe go."""
    state = breaker.State("open", opened_ns // 1_000_000)
    harness.word(0, d.BREAKER, breaker.pack(state))
    return state.value * 1_000_000 + 2 * HOUR


def shown(harness: SchedulerHarness) -> tuple[str | None, str | None, str | None, str | None]:
    """The endpoint's next retry and probe, by the API and the command line, and its delivery's next
    attempt; the statistics must say the same."""
    stats = read_stats(harness.path).endpoint("ops")
    service = Service(harness.path)
    try:
        all = service.status()
        (delivery,) = service.deliveries().items
    finally:
        service.close()
    (status,), (told,) = all.webhooks, stats_of(all, "x").endpoints
    assert stats.state == status.state
    for ns, said, text in (
        (stats.next_retry_ns, status.next_retry_at, told.next_retry_ns),
        (stats.next_probe_ns, status.next_probe_at, told.next_probe_ns),
    ):
        assert said == (None if ns is None else timestamp(ns))
        assert text == (None if ns is None else ns // 1_000_000 * 1_000_000)
    return status.next_retry_at, status.next_probe_at, delivery.due_at, delivery.first_failed_at


def test_an_open_breaker(harness: SchedulerHarness) -> None:
    """The next retry is not before the next probe, which is the same wherever it is shown; once that
    may go, nobody knows when it will, and no time is shown that is past."""
    harness.first_failure("evt_a")
    retry, probe, due, failed = shown(harness)
    assert retry == due
    assert retry is not None
    assert probe is None
    assert failed is not None
    opens = timestamp(open_breaker(harness, time.time_ns()))
    assert shown(harness)[:3] == (opens, opens, opens)
    open_breaker(harness, time.time_ns() - 3 * HOUR)
    assert shown(harness)[1] is None
    harness.word(
        0, d.BREAKER, breaker.pack(breaker.State("half_open", time.time_ns() // 1_000_000))
    )
    assert shown(harness)[1] is None


@pytest.mark.parametrize("since_ns", [0, 3 * HOUR])
def test_what_waits_is_never_past_while_a_breaker_is_open(
    harness: SchedulerHarness, since_ns: int
) -> None:
    """Its due time may long be over."""
    harness.now_ns -= 2 * HOUR
    harness.first_failure("evt_a")
    opens_ns = open_breaker(harness, time.time_ns() - since_ns)
    expected = timestamp(opens_ns) if opens_ns > time.time_ns() else None
    assert shown(harness)[:3] == (expected, expected, expected)


def test_a_paused_endpoint(harness: SchedulerHarness) -> None:
    """Nothing is ahead: neither a retry nor a probe; after it is resumed it is as before."""
    harness.first_failure("evt_a")
    before = shown(harness)
    open_breaker(harness, time.time_ns())
    harness.ask(c.Pause("ops"), c.Done)
    assert shown(harness)[:3] == (None, None, None)
    harness.ask(c.Resume("ops"), c.Done)
    assert shown(harness) == before


def test_the_schedule_of_an_open_breaker(harness: SchedulerHarness) -> None:
    """The dashboard's retries have nothing due before the probe, two hours from now."""
    harness.now_ns -= 2 * HOUR
    harness.first_failure("evt_a")
    service = Service(harness.path)
    (before,) = read_schedule(service, ()).endpoints
    assert before.counts == (1, 0, 0, 0, 0, 0)
    open_breaker(harness, time.time_ns())
    (after,) = read_schedule(service, ()).endpoints
    service.close()
    assert after.counts == (0, 0, 0, 0, 1, 0)


def test_what_never_failed(harness: SchedulerHarness) -> None:
    """A delivery that succeeded at its first attempt has no first failure, nor has one that only
    waits."""
    fresh = harness.fresh("evt_a")
    harness.reporter.report(fresh, "delivered", "delivered", harness.attempt("delivered", 204))
    harness.step()
    assert shown(harness)[3] is None


def test_what_was_only_parked(harness: SchedulerHarness) -> None:
    """It was not attempted."""
    harness.reporter.report(harness.fresh("evt_a"), "parked", "paused")
    harness.step()
    assert shown(harness)[3] is None


def test_endpoint_states() -> None:
    """Only where requests are sent is a due time shown as it is, and only there is something late."""
    halted: tuple[StateName, ...] = ("paused", "disabled", "misconfigured", "removed", "unknown")
    for state in halted:
        assert EndpointState(state).next_ns(5, 1) is None
        assert EndpointState(state).past_due_ns(5, 9) == 0
    assert EndpointState("active").next_ns(5, 9) == EndpointState("failing").next_ns(5, 9) == 5
    assert (
        EndpointState("active").past_due_ns(5, 9) == EndpointState("failing").past_due_ns(5, 9) == 4
    )
    assert (
        EndpointState("active").past_due_ns(9, 5)
        == EndpointState("open", 20).past_due_ns(5, 9)
        == 0
    )
    assert (
        EndpointState("half-open").past_due_ns(5, 9) == EndpointState("open").past_due_ns(5, 9) == 4
    )
    assert EndpointState("open", 20).next_ns(5, 9) == 20
    assert EndpointState("open", 20).next_ns(30 * S, 9) == 30 * S
    assert EndpointState("open").next_ns(5, 9) is None
    assert EndpointState("half-open").next_ns(5, 9) is None
    assert EndpointState("half-open").next_ns(10, 9) == 10

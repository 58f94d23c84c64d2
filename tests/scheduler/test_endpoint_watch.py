"""The log of endpoints, and what the host hears, by a scheduler whose only worker is the test."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fluxhook import Breaker, DeadLetter, Duration, Endpoint, EndpointStateChange
from fluxhook import control as c
from fluxhook.logs.limit import PER_LOGGER
from fluxhook.policy import breaker
from fluxhook.policy.breaker import State
from fluxhook.policy.clock import Offset
from fluxhook.stats import read_stats
from fluxhook.transport import datadir as d
from support.scheduler_harness import S, SchedulerHarness

SHOP = Endpoint(
    name="shop",
    url="http://127.0.0.1:9/",
    signature="none",
    circuit_breaker=Breaker(failure_threshold=2, reset_timeout=Duration.parse("30s")),
)


class Host:
    """The channel, as the supervisor has it."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.waits = False

    def send(self, message: object) -> None:
        self.said.append(message)

    def finish(self, timeout_s: float) -> None:
        """Nothing waits."""

    @property
    def states(self) -> list[str]:
        return [f"{m.before} {m.state}" for m in self.said if isinstance(m, EndpointStateChange)]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SchedulerHarness]:
    with SchedulerHarness(tmp_path / "data", SHOP) as harness:
        yield harness


@pytest.fixture
def host(harness: SchedulerHarness) -> Host:
    host = Host()
    harness.supervisor.host = host  # type: ignore[assignment]
    return host


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Said]:
    with caplog.at_level(logging.INFO, "fluxhook"):
        yield Said(caplog)


class Said:
    """The events of the log."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def take(self, *loggers: str) -> list[dict[str, Any]]:
        wanted = loggers or ("fluxhook.endpoint",)
        found = [vars(r)["fields"] for r in self._caplog.records if r.name in wanted]
        self._caplog.clear()
        return found

    def events(self) -> list[str]:
        return [fields["event"] for fields in self.take()]


def trip(harness: SchedulerHarness, id: int = 0) -> None:
    """Open the breaker as a worker does, before it reports."""
    word = breaker.pack(State("open", harness.now_ns // 1_000_000))
    harness.word(id, d.BREAKER, word)


def succeed(harness: SchedulerHarness, id: int = 0) -> None:
    """As a worker whose first attempt succeeds: it reports nothing."""
    harness.word(id, d.BREAKER, 0)
    harness.word(id, d.FAILING, 0)
    harness.reporter.counters.add(id, d.DELIVERED)


def pause(harness: SchedulerHarness, seconds: float) -> None:
    harness.now_ns += int(seconds * S)
    harness.step()


def test_an_outage_from_its_first_failure_to_its_recovery(
    harness: SchedulerHarness, host: Host, said: Said
) -> None:
    """Four lines with cause, error, times and counts; the host's callback gets each state once."""
    harness.word(0, d.FAILING, harness.now_ns)
    harness.first_failure("evt_1")
    (first,) = said.take()
    assert (first["event"], first["endpoint"], first["cause"]) == (
        "first_failure",
        "shop",
        "server_error",
    )
    assert (first["error"], first["count"]) == ("no", 1)
    trip(harness)
    harness.first_failure("evt_2")
    (opened,) = said.take()
    assert opened["event"] == "breaker_opened"
    assert opened["count"] == 2
    assert opened["next_at"].endswith("Z")
    pause(harness, 20)
    assert said.take() == []
    succeed(harness)
    pause(harness, 1)
    (closed,) = said.take()
    assert closed["event"] == "breaker_closed"
    assert 20 <= closed["for_s"] <= 21.1
    pause(harness, 1)
    (recovered,) = said.take()
    assert (recovered["event"], recovered["count"]) == ("recovered", 2)
    assert host.states == ["active open", "open active"]
    opened_change = host.said[0]
    assert (opened_change.cause, opened_change.error) == ("server_error", "no")
    assert opened_change.reason == "The receiver failed (5xx)."


def test_what_never_moves_a_breaker_is_told_too(harness: SchedulerHarness, said: Said) -> None:
    """An address that may not be reached fails every attempt, and the breaker stays closed."""
    harness.fail(harness.fresh("evt_1"), cause="egress_denied", status=0)
    assert said.events() == ["first_failure"]
    pause(harness, 120)
    assert said.events() == []
    harness.fail(harness.fresh("evt_2"), cause="egress_denied", status=0)
    assert said.events() == ["still_failing"]
    succeed(harness)
    pause(harness, 2)
    assert said.events() == ["recovered"]


def test_a_scheduler_that_follows_another_repeats_nothing(
    harness: SchedulerHarness, said: Said
) -> None:
    """A breaker that was open before it began is not said to open; that it closes is said."""
    harness.word(0, d.FAILING, harness.now_ns)
    trip(harness)
    harness.first_failure("evt_1")
    assert said.events() == ["first_failure", "breaker_opened"]
    harness.reopen()
    pause(harness, 2)
    assert set(said.events()) <= {"still_failing"}  # the harness's clock is a minute ahead
    succeed(harness)
    pause(harness, 2)
    assert said.events()[0] == "breaker_closed"


def test_dead_letters_are_summed_up_by_endpoint_and_cause(
    harness: SchedulerHarness, host: Host, said: Said
) -> None:
    """A line for the first second, then one a minute; the host gets each of them."""
    for n in range(50):
        cause = "client_error" if n % 5 else "gone"
        harness.reporter.report(
            harness.fresh(f"evt_{n}"), "dead", cause, harness.attempt(cause, 400)
        )
    harness.step()
    assert said.take("fluxhook.delivery") == []
    pause(harness, 1)
    pause(harness, 1)
    sums = {fields["cause"]: fields for fields in said.take("fluxhook.delivery")}
    assert {cause: fields["count"] for cause, fields in sums.items()} == {
        "client_error": 40,
        "gone": 10,
    }
    assert sums["client_error"]["first_event"] == "evt_1"
    assert sums["client_error"]["last_event"] == "evt_49"
    harness.fail(harness.fresh("evt_x"), "dead", "gone", 410)
    pause(harness, 50)
    assert said.take("fluxhook.delivery") == []
    pause(harness, 11)
    (more,) = said.take("fluxhook.delivery")
    assert (more["event"], more["cause"], more["count"]) == ("dead_letters", "gone", 1)
    letters = [message for message in host.said if isinstance(message, DeadLetter)]
    assert [letter.event_id for letter in letters] == [*(f"evt_{n}" for n in range(50)), "evt_x"]
    assert {letter.endpoint for letter in letters} == {"shop"}
    assert letters[1].cause == "client_error"
    assert letters[1].attempts == 1
    stored = harness.store.delivery(letters[1].delivery_id)
    assert stored is not None
    assert stored.event_id == letters[1].event_id


def test_the_line_of_dead_letters_has_the_command_that_lists_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It can be pasted, whatever the endpoint's name is."""
    odd = msgspec.structs.replace(SHOP, name="it's; odd")
    with SchedulerHarness(tmp_path / "data", odd) as harness:
        harness.fail(harness.fresh("evt_1"), "dead", "gone", 410)
        pause(harness, 1)
        pause(harness, 1)
    (line,) = [m for m in caplog.messages if "given up" in m]
    assert """`fluxhook dead-letters list --endpoint 'it'"'"'s; odd' --cause gone`""" in line


def test_dead_letters_at_the_end_are_said_before_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine that stops right after them does not keep the sum to itself."""
    with SchedulerHarness(tmp_path / "data", SHOP) as harness:
        harness.fail(harness.fresh("evt_1"), "dead", "gone", 410)
    assert any("events given up: 1 (gone)" in message for message in caplog.messages)


def test_a_transaction_that_fails_tells_nothing_twice(
    harness: SchedulerHarness, host: Host, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dead letter and a failed attempt are told once they are committed."""
    from fluxhook.store import StoreError
    from fluxhook.store.transaction import DeliveryTransaction

    with monkeypatch.context() as patched:

        def fails(self: object) -> None:
            raise StoreError("no room")

        patched.setattr(DeliveryTransaction, "commit", fails)
        harness.reporter.report(
            harness.fresh("evt_1"), "dead", "gone", harness.attempt("gone", 410)
        )
        harness.step()
        pause(harness, 1)
        assert host.said == []
        assert said.take() == []
    pause(harness, 1)
    pause(harness, 1)
    assert [m.event_id for m in host.said if isinstance(m, DeadLetter)] == ["evt_1"]
    (failing,) = [fields for fields in said.take() if fields["event"] == "first_failure"]
    assert failing["count"] == 1


def test_a_thousand_endpoints_that_fail_at_once_are_a_bounded_number_of_lines(
    tmp_path: Path, said: Said
) -> None:
    """PER_LOGGER lines in a minute; the host's callback still gets the state of each."""
    endpoints = [msgspec.structs.replace(SHOP, name=f"e{n:04}") for n in range(1000)]
    with SchedulerHarness(tmp_path / "data", *endpoints) as harness:
        host = Host()
        harness.supervisor.host = host  # type: ignore[assignment]
        said.take()
        for id in harness.supervisor.snapshot.ids.values():
            trip(harness, id)
            harness.reporter.report(
                harness.fresh(f"evt_{id}", endpoint=id), "retry", "refused", harness.attempt()
            )
        harness.step()
        assert len(said.take()) == PER_LOGGER
        assert host.states == ["active open"] * 1000


def test_what_an_operator_does_changes_the_state(
    harness: SchedulerHarness, host: Host, said: Said
) -> None:
    """Pause, resume, and an endpoint that comes and goes."""
    harness.ask(c.Pause("shop"), c.Done)
    harness.ask(c.Resume("shop"), c.Done)
    new = {"name": "new", "url": "https://h.example/", "events": ["*"], "signature": "none"}
    harness.ask(c.Create(new), c.Subscription)
    harness.ask(c.Delete("new"), c.Done)
    assert host.states == ["active paused", "paused active", "active removed"]


def test_events_of_a_removed_endpoint_dies_under_its_name(
    harness: SchedulerHarness, host: Host, said: Said
) -> None:
    """The line and the host's call name it, and the command that lists them can work."""
    new = {"name": "new", "url": "https://h.example/", "events": ["*"], "signature": "none"}
    id = harness.ask(c.Create(new), c.Subscription).id
    harness.fail(harness.fresh("evt_1", endpoint=id))
    harness.ask(c.Delete("new"), c.Done)
    harness.now_ns += 3600 * S
    harness.step()
    pause(harness, 1)
    pause(harness, 1)
    (letter,) = [message for message in host.said if isinstance(message, DeadLetter)]
    assert (letter.endpoint, letter.cause) == ("new", "removed")
    (line,) = said.take("fluxhook.delivery")
    assert line["endpoint"] == "new"


def test_an_endpoint_whose_events_die_is_failing_as_every_view_says(
    harness: SchedulerHarness, host: Host
) -> None:
    """The rule is that of policy/failing.py, and the figures of the state agree with it."""
    harness.reporter.report(harness.fresh("evt_1"), "dead", "payload_too_large")
    harness.step()
    pause(harness, 2)
    assert host.states == ["active failing"]
    change = next(m for m in host.said if isinstance(m, EndpointStateChange))
    assert change.cause == "payload_too_large"
    assert "max_payload" in change.reason
    assert read_stats(harness.path).endpoint("shop").state == "failing"
    pause(harness, 15 * 60)
    assert host.states == ["active failing", "failing active"]


def test_a_disabled_endpoint_is_told_with_its_reason(tmp_path: Path, said: Said) -> None:
    """The state is disabled, and no line says that it recovered."""
    shop = msgspec.structs.replace(SHOP, disable_on_gone=True)
    with SchedulerHarness(tmp_path / "data", shop) as harness:
        host = Host()
        harness.supervisor.host = host  # type: ignore[assignment]
        harness.fail(harness.fresh("evt_1"), "dead", "gone", 410)
        harness.supervisor.housekeep(1e12)
        assert [fields["event"] for fields in said.take()] == ["first_failure", "endpoint_disabled"]
        assert host.states[-1].endswith(" disabled")
        assert host.said[-1].reason == "The receiver says that it is gone for good (410)."
        pause(harness, 1000)
        assert "recovered" not in said.events()


def test_a_scheduler_that_follows_another_tells_when_an_endpoint_is_active_again(
    harness: SchedulerHarness,
) -> None:
    """It failed before this scheduler began, and time alone ends that."""
    harness.reporter.report(harness.fresh("evt_1"), "dead", "payload_too_large")
    harness.step()
    harness.reopen()
    host = Host()
    harness.supervisor.host = host  # type: ignore[assignment]
    pause(harness, 2)
    assert host.states == []
    pause(harness, 15 * 60)
    assert host.states == ["failing active"]


def test_nothing_is_kept_of_endpoints_that_are_gone(harness: SchedulerHarness) -> None:
    """They come and go for years; what waited for them dies after them."""
    watch = harness.supervisor.scheduler.watch
    new = {"name": "new", "url": "https://h.example/", "events": ["*"], "signature": "none"}
    id = harness.ask(c.Create(new), c.Subscription).id
    harness.fail(harness.fresh("evt_1", endpoint=id))
    assert id in watch.watched
    harness.ask(c.Delete("new"), c.Done)
    harness.now_ns += 3600 * S
    harness.step()
    pause(harness, 1)
    pause(harness, 1)
    assert id not in watch.watched


def test_a_letter_has_the_times_that_every_view_shows(
    harness: SchedulerHarness, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the wall clock, as the store keeps them, also after that clock was set by an hour."""
    clock = harness.supervisor.clock
    hour = Offset(0, 0, 3600 * S)
    monkeypatch.setattr(clock, "known", msgspec.structs.replace(clock.known, offsets=(hour,)))
    harness.fail(harness.fresh("evt_1"), "dead", "gone", 410)
    (letter,) = [message for message in host.said if isinstance(message, DeadLetter)]
    stored = harness.store.delivery(letter.delivery_id)
    assert stored is not None
    assert (letter.accepted_ns, letter.dead_ns) == (stored.accepted_ns, stored.ended_ns)


def test_what_waits_since_a_refused_address_is_the_same_in_every_view(
    harness: SchedulerHarness, host: Host
) -> None:
    """An endpoint whose events were refused an address, and got through, is not failing because of one
    that came later and waits."""
    succeed(harness)
    harness.fail(harness.fresh("evt_1"), cause="egress_denied", status=0)
    pause(harness, 1)
    assert host.states == ["active failing"]
    (again,) = harness.sleep_until_due()
    harness.reporter.report(again, "delivered", "", harness.attempt("delivered", 200))
    harness.reporter.report(harness.fresh("evt_2"), "parked", "rate_limit")
    harness.step()
    pause(harness, 2)
    assert read_stats(harness.path).endpoint("shop").state == "active"
    assert host.states == ["active failing", "failing active"]

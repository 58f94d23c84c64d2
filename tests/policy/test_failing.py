"""Whether an endpoint with a closed breaker is failing."""

from __future__ import annotations

import pytest

from fluxhook.policy.failing import LASTING_NS, RECENT_NS, Health, is_failing
from fluxhook.policy.outcome import CAUSES, NOT_ATTEMPTED

NOW = 10 * RECENT_NS
MINUTE = 60 * 1_000_000_000


def test_the_documented_times() -> None:
    """Fifteen minutes, and one minute."""
    assert (RECENT_NS, LASTING_NS) == (15 * MINUTE, MINUTE)


@pytest.mark.parametrize(
    "health",
    [
        Health(),
        Health(delivered=10_000),
        Health(delivered=1, failed_attempts=9_999, last_cause="server_error", waits_since=True),
        Health(delivered=1, failed_attempts=1, last_cause="egress_denied"),
        Health(delivered=1, failed_attempts=1, last_cause="payload_too_large", waits_since=True),
        Health(delivered=1, failed_attempts=1, last_cause="of another version", waits_since=True),
        Health(delivered=1, waits_since=True),
    ],
)
def test_not_failing(health: Health) -> None:
    """Nothing happened yet; nothing failed; few attempts succeed, and none of the events dies; what the
    breaker ignores is over; a cause that it counts, or that is none of an attempt."""
    assert not is_failing(health, NOW)


@pytest.mark.parametrize(
    ("ago_ns", "failing"),
    [(-MINUTE, True), (0, True), (RECENT_NS - 1, True), (RECENT_NS, False), (NOW - 1, False)],
)
def test_events_die(ago_ns: int, failing: bool) -> None:
    """For fifteen minutes from the last death on, whatever else succeeds."""
    assert is_failing(Health(delivered=10_000, died_ns=NOW - ago_ns), NOW) is failing


@pytest.mark.parametrize("now_ns", [0, 1, RECENT_NS - 1])
def test_at_the_beginning_of_time(now_ns: int) -> None:
    """That nothing has died is no death in 1970."""
    assert not is_failing(Health(), now_ns)


def test_none_has_succeeded_yet() -> None:
    """From the first failed attempt to the first delivery."""
    assert is_failing(Health(failed_attempts=1), NOW)
    assert not is_failing(Health(failed_attempts=1, delivered=1), NOW)


@pytest.mark.parametrize(
    ("for_ns", "failing"), [(0, False), (MINUTE - 1, False), (MINUTE, True), (NOW - 1, True)]
)
def test_none_succeeds_any_more(for_ns: int, failing: bool) -> None:
    """Once every attempt has failed for a minute."""
    health = Health(delivered=10_000, failed_attempts=2, failing_ns=NOW - for_ns)
    assert is_failing(health, NOW) is failing


@pytest.mark.parametrize("cause", [*CAUSES, *NOT_ATTEMPTED])
def test_the_breaker_looks_away(cause: str) -> None:
    """As long as an event waits from before the latest failure, where the breaker ignores its cause."""
    health = Health(delivered=1, failed_attempts=1, last_cause=cause, waits_since=True)
    ignored = {"content_too_large", "egress_denied", "internal"}
    assert is_failing(health, NOW) is (cause in ignored)

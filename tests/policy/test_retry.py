"""Delays between attempts, and the Retry-After header."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.config.schema import Endpoint, Retry
from fluxhook.config.units import Duration
from fluxhook.policy.retry import next_delay_ns, parse_retry_after

S = 1_000_000_000
FLUXGATE = Endpoint(name="a", url="https://example.com/").retry


def seconds(retry: Retry, attempts: range, u: float = 0.0) -> list[float | None]:
    delays = [next_delay_ns(retry, n, u) for n in attempts]
    return [None if ns is None else ns / S for ns in delays]


def duration(text: str) -> Duration:
    return Duration.parse(text)


def test_fluxgates_schedule() -> None:
    """FluxGate: "attempts delivery at 15s, 2m, 10m, and 1h after the initial failure"."""
    assert seconds(FLUXGATE, range(1, 7)) == [15, 120, 600, 3600, None, None]


def test_fluxmqs_backoff() -> None:
    """FluxMQ: three attempts, `initial_interval * multiplier^attempt`, from 1s; the first interval
    is used."""
    assert seconds(Retry(), range(1, 5)) == [1, 2, None, None]


def test_backoff_is_capped() -> None:
    """FluxMQ: "capped by max_interval", 30s."""
    assert seconds(Retry(max_attempts=9), range(1, 10)) == [1, 2, 4, 8, 16, 30, 30, 30, None]


def test_attempts_beyond_the_schedule_repeat_its_last_entry() -> None:
    """max_attempts may be more, or fewer, than the schedule has entries plus one."""
    schedule = (duration("1s"), duration("5s"))
    assert seconds(Retry(schedule=schedule, max_attempts=5), range(1, 6)) == [1, 5, 5, 5, None]
    assert seconds(Retry(schedule=schedule, max_attempts=2), range(1, 3)) == [1, None]
    assert seconds(Retry(schedule=schedule, max_attempts=1), range(1, 2)) == [None]


def test_an_empty_schedule_means_no_retry() -> None:
    """Also under a max_attempts that would allow one: there is no delay to take."""
    assert seconds(Retry(schedule=()), range(1, 2)) == [None]
    assert seconds(Retry(schedule=(), max_attempts=5), range(1, 2)) == [None]


@pytest.mark.parametrize("multiplier", [1.0, 1.5, 2.0, 1e300])
def test_no_number_of_attempts_overflows(multiplier: float) -> None:
    """The millionth retry still waits max_interval (or, with a multiplier of 1, the first)."""
    retry = Retry(max_attempts=10**7, multiplier=multiplier)
    assert seconds(retry, range(10**6, 10**6 + 1)) == [1 if multiplier == 1.0 else 30]


def test_there_is_no_retry_before_a_failure() -> None:
    """failed_attempts counts the attempts made, so it is at least 1."""
    with pytest.raises(ValueError, match="before the first failure"):
        next_delay_ns(Retry(), 0, 0.0)


def test_jitter_shortens_and_never_lengthens() -> None:
    """`delay * (1 - jitter * u)`: with a jitter of 0.1, between 13.5s and 15s."""
    assert seconds(FLUXGATE, range(1, 2), u=0.5) == [14.25]
    assert seconds(FLUXGATE, range(1, 2), u=0.999999)[0] == pytest.approx(13.5, rel=1e-5)


def test_retry_after_is_a_floor_within_bounds() -> None:
    """A longer Retry-After wins, a shorter one does not, one over max_retry_after is cut to it; no
    jitter shortens it; and it grants no further attempt."""
    retry = Retry(max_attempts=3, jitter=1.0, max_retry_after=duration("60s"))
    assert next_delay_ns(retry, 1, 0.9, 7) == 7 * S
    assert next_delay_ns(retry, 1, 0.0, 0) == 1 * S
    assert next_delay_ns(retry, 1, 0.0, -5) == 1 * S
    assert next_delay_ns(retry, 1, 0.0, 86_400) == 60 * S
    assert next_delay_ns(retry, 3, 0.0, 7) is None


NOW_S = 784_111_777  # RFC 9110 section 5.6.7: Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        # RFC 9110 section 10.2.3
        ("120", 120),
        ("0", 0),
        (" 120\t", 120),
        ("000000000000000120", 120),
        ("99999999999999999999", 2**31),
        ("9" * 10_000, 2**31),
        # RFC 9110 section 5.6.7: the three forms, an hour on
        ("Sun, 06 Nov 1994 09:49:37 GMT", 3600),
        ("Sunday, 06-Nov-94 09:49:37 GMT", 3600),
        ("Sun Nov  6 09:49:37 1994", 3600),
        # in the past
        ("Sun, 06 Nov 1994 08:49:36 GMT", 0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 162_573_022),
        # two-digit years: at most 50 years ahead, otherwise past
        ("Sunday, 06-Nov-44 08:49:37 GMT", 1_577_923_200),
        ("Monday, 06-Nov-45 08:49:37 GMT", 0),
        ("Saturday, 01-Jan-00 00:00:00 GMT", 162_573_023),
        ("Monday, 06-Nov-95 08:49:37 GMT", 365 * 86_400),
        # not valid
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1e3", None),
        ("soon", None),
        ("²", None),
        ("١٢", None),
        ("Sun, 06 Nov 1994 08:49:37", None),
        ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Foo 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 24:00:00 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT\r\n", None),
    ],
)
def test_retry_after_values(value: str, seconds: int | None) -> None:
    """Seconds or an HTTP-date in any of its three forms; all else asks for nothing."""
    assert parse_retry_after(value, NOW_S * S) == seconds


def test_a_date_is_never_met_early() -> None:
    """Half a second before the date is a whole second of waiting."""
    assert parse_retry_after("Sun, 06 Nov 1994 08:49:38 GMT", NOW_S * S + S // 2) == 1


@given(st.text())
def test_no_header_value_raises(value: str) -> None:
    """The header comes from a stranger."""
    asked = parse_retry_after(value, NOW_S * S)
    assert asked is None or asked >= 0


@given(st.datetimes(datetime(1994, 11, 7), datetime(2199, 1, 1)))
def test_dates_agree_with_the_standard_library(date: datetime) -> None:
    """IMF-fixdate as `email.utils` writes it, read back to the second."""
    date = date.replace(microsecond=0, tzinfo=UTC)
    asked = parse_retry_after(format_datetime(date, usegmt=True), NOW_S * S)
    assert asked == int(date.timestamp()) - NOW_S


durations = st.integers(0, 10**13).map(Duration)
policies = st.builds(
    Retry,
    schedule=st.none() | st.lists(durations, max_size=5).map(tuple),
    max_attempts=st.none() | st.integers(1, 20),
    initial_interval=durations,
    max_interval=durations,
    multiplier=st.floats(1.0, 100.0),
    jitter=st.floats(0.0, 1.0),
    max_retry_after=durations,
)


@given(policies, st.integers(1, 10**6), st.floats(0, 1, exclude_max=True), st.integers(0, 2**31))
def test_no_delay_passes_its_cap(retry: Retry, failed: int, u: float, asked: int) -> None:
    """Not by jitter, not by growth, and by Retry-After only up to max_retry_after."""
    longest = max(s.ns for s in retry.schedule or (retry.max_interval,))
    delay = next_delay_ns(retry, failed, u)
    if delay is not None:
        assert 0 <= delay <= longest
        floored = next_delay_ns(retry, failed, u, asked)
        assert floored == max(delay, min(asked * S, retry.max_retry_after.ns))

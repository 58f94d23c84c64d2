"""Delays between attempts."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.config.schema import Endpoint, Retry
from fluxhook.config.units import Duration
from fluxhook.policy.retry import asked_delay_s, next_delay_ns

S = 1_000_000_000
FLUXGATE = Endpoint(name="a", url="https://example.com/").retry


def seconds(retry: Retry, attempts: range, u: float = 0.0) -> list[float | None]:
    delays = [next_delay_ns(retry, n, u) for n in attempts]
    return [None if ns is None else ns / S for ns in delays]


def duration(text: str) -> Duration:
    return Duration.parse(text)


def due_times(retry: Retry, attempts: int, *, took_s: int = 0) -> list[float]:
    """Return when each retry begins, in seconds after the first failure, if each attempt takes
    `took_s`."""
    times = []
    now_ns = 0
    for failed in range(1, attempts + 1):
        delay = next_delay_ns(retry, failed, 0.0, since_first_ns=now_ns)
        if delay is None:
            break
        now_ns += delay
        times.append(now_ns / S)
        now_ns += took_s * S
    return times


@pytest.mark.parametrize("took_s", [0, 3])
def test_fluxgates_schedule(took_s: int) -> None:
    """FluxGate: "attempts delivery at 15s, 2m, 10m, and 1h after the initial failure", however long
    the attempts take."""
    assert due_times(FLUXGATE, 9, took_s=took_s) == [15, 120, 600, 3600]


def test_a_schedule_never_asks_for_the_past() -> None:
    """A retry whose time passed while the attempt before it hung, or the engine was down, is due at
    once."""
    assert next_delay_ns(FLUXGATE, 2, 0.0, since_first_ns=7200 * S) == 0


def test_fluxmqs_backoff() -> None:
    """FluxMQ: three attempts, `initial_interval * multiplier^attempt`, from 1s; the first interval
    is used."""
    assert seconds(Retry(), range(1, 5)) == [1, 2, None, None]


def test_backoff_is_capped() -> None:
    """FluxMQ: "capped by max_interval", 30s."""
    assert seconds(Retry(max_attempts=9), range(1, 10)) == [1, 2, 4, 8, 16, 30, 30, 30, None]


def test_attempts_beyond_the_schedule_repeat_its_last_step() -> None:
    """max_attempts may be more, or fewer, than the schedule has entries plus one."""
    schedule = (duration("1s"), duration("5s"))
    assert due_times(Retry(schedule=schedule, max_attempts=5), 9) == [1, 5, 9, 13]
    assert due_times(Retry(schedule=schedule[:1], max_attempts=4), 9) == [1, 2, 3]
    assert due_times(Retry(schedule=schedule, max_attempts=2), 9) == [1]
    assert due_times(Retry(schedule=schedule, max_attempts=1), 9) == []


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
    delay = next_delay_ns(retry, failed, u)
    if delay is None:
        return
    if retry.schedule is None:
        assert 0 <= delay <= retry.max_interval.ns
    else:
        assert 0 <= delay <= failed * max(s.ns for s in retry.schedule)
    floored = next_delay_ns(retry, failed, u, asked)
    assert floored == max(delay, min(asked * S, retry.max_retry_after.ns))


# ---- Retry-After ---------------------------------------------------------------------------

NOW_S = 1_795_789_980.5  # 2026-11-27T14:33:00.5Z


def asked(*values: str) -> int | None:
    return asked_delay_s(
        [b"HTTP/1.1 429 \r\n", *(f"Retry-After: {v}\r\n".encode() for v in values)], NOW_S
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        (" 7\t", 7),
        ("007", 7),
        ("86400", 86_400),
        ("99999999999999999999", 2**53 - 1),
        ("9" * 5000, 2**53 - 1),
        ("9007199254740990", 2**53 - 2),
        ("9007199254740991", 2**53 - 1),
        ("9007199254740992", 2**53 - 1),
        ("0009007199254740990", 2**53 - 2),
        ("Fri, 27 Nov 2026 16:34:00 +0200", 60),
        ("Fri, 27 Nov 2026 14:34:00 GMT", 60),
        ("Friday, 27-Nov-26 14:34:00 GMT", 60),
        ("Fri Nov 27 14:34:00 2026", 60),
        ("Sat, 28 Nov 2026 14:33:00 GMT", 86_400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 251_606_510_819),
    ],
)
def test_a_wait_is_seconds_or_a_date(value: str, seconds: int) -> None:
    """RFC 9110 section 10.2.3, in each form of a date, and however far away."""
    assert asked(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *("", "0", "000", "-5", "+5", "1.5", "1e9", "0x10", "5 s", "5, 10", "soon", "²", "\u0663"),
        "Fri, 27 Nov 2026 14:32:00 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 99 Nov 2026 14:34:00 GMT",
        "Fri, 99999999999999999999 Nov 2026 14:34:00 GMT",
        "Fri, 27 Nov 99999 14:34:00 GMT",
    ],
)
def test_what_asks_for_no_wait_is_none(value: str) -> None:
    """Neither what has passed, nor what cannot be read."""
    assert asked(value) is None


def test_a_date_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever this machine is."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert asked("Fri Nov 27 14:34:00 2026") == 60
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "head", [[], [b"HTTP/1.1 429 \r\n"], [b"HTTP/1.1 429 \r\n", b"Date: 7\r\n"]]
)
def test_without_the_field_there_is_no_wait(head: list[bytes]) -> None:
    """Nor where there is no head at all."""
    assert asked_delay_s(head, NOW_S) is None


@pytest.mark.parametrize("value", [b"\xb2", b"\xb9\xb2", b"7\xb2", b"\xff"])
def test_digits_are_those_of_ascii(value: bytes) -> None:
    """A superscript of Latin-1 is a digit to Python, and no number."""
    assert asked_delay_s([b"Retry-After: " + value], NOW_S) is None


def test_the_longest_of_several_waits_counts() -> None:
    """A receiver behind a proxy may say it twice."""
    assert asked("5", "60", "soon") == 60


def test_only_the_last_head_counts() -> None:
    """Not that of the proxy's answer to CONNECT, nor of an interim answer; names have no case."""
    head = [
        b"HTTP/1.1 200 Connection established\r\n",
        b"Retry-After: 9\r\n",
        b"\r\n",
        b"HTTP/1.1 103 Early Hints\r\n",
        b"Retry-After: 8\r\n",
        b"\r\n",
        b"HTTP/2 429 \r\n",
        b"rEtry-aFter:3\r\n",
        b"X-Retry-After: 7\r\n",
        b"no colon\r\n",
        b"\r\n",
    ]
    assert asked_delay_s(head, NOW_S) == 3
    assert asked_delay_s(head[:-5], NOW_S) == 8


@given(st.lists(st.binary(max_size=40).map(lambda v: b"Retry-After: " + v), max_size=3))
def test_no_bytes_of_a_receiver_raise(lines: list[bytes]) -> None:
    """Whatever stands there is a wait or none."""
    found = asked_delay_s(lines, NOW_S)
    assert found is None or 0 < found < 2**53

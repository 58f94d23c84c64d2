"""The rate limit: a burst, then one request each interval, whatever the clock does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fluxhook.policy.rate import admit, is_possible

NOW = 1_700_000_000_000_000_000
MS = 1_000_000


def test_a_burst_goes_at_once_and_then_one_each_interval() -> None:
    """`100/s burst 3`: three at once, the fourth 10 ms later, and not a nanosecond earlier."""
    tat = 0
    for _ in range(3):
        tat, wait = admit(tat, NOW, 10 * MS, 3)
        assert wait == 0
    assert admit(tat, NOW, 10 * MS, 3) == (tat, 10 * MS)
    assert admit(tat, NOW + 10 * MS - 1, 10 * MS, 3) == (tat, 1)
    assert admit(tat, NOW + 10 * MS, 10 * MS, 3)[1] == 0


def test_rest_restores_no_more_than_a_burst() -> None:
    """An endpoint that was idle for a day may get `burst` requests at once, not a day's worth."""
    tat = admit(0, NOW, MS, 5)[0]
    admitted = 0
    while True:
        tat, wait = admit(tat, NOW + 86_400_000 * MS, MS, 5)
        if wait:
            break
        admitted += 1
    assert admitted == 5


@given(
    st.lists(st.integers(0, 5_000), min_size=1, max_size=200),
    st.integers(1, 1_000),
    st.integers(1, 20),
)
def test_no_window_lets_more_through_than_the_limit(
    gaps: list[int], interval: int, burst: int
) -> None:
    """In any window of length w at most `burst + w / interval` requests are admitted."""
    tat, now, admitted = 0, NOW, []
    for gap in gaps:
        now += gap
        tat, wait = admit(tat, now, interval, burst)
        if not wait:
            admitted.append(now)
    for i, first in enumerate(admitted):
        for count, last in enumerate(admitted[i:], 1):
            assert count <= burst + (last - first) // interval


@given(st.integers(0, 2**62), st.integers(1, 10**12), st.integers(1, 1_000))
def test_waiting_as_told_is_enough_from_any_state(tat: int, interval: int, burst: int) -> None:
    """From any word, even one far in the future, a request that waits as told is admitted, and the
    wait is never over one interval: a clock that stepped back stops nobody."""
    new_tat, wait = admit(tat, NOW, interval, burst)
    assert 0 <= wait <= interval
    if wait:
        assert admit(new_tat, NOW + wait, interval, burst)[1] == 0


@given(st.integers(0, 2**62), st.integers(1, 10**9), st.integers(1, 1_000))
def test_a_refusal_admits_nothing(tat: int, interval: int, burst: int) -> None:
    """Asking while refused does not push the next admission further away."""
    refused_tat, wait = admit(tat, NOW, interval, burst)
    if wait:
        assert admit(refused_tat, NOW, interval, burst) == (refused_tat, wait)


def test_what_a_limit_can_have_left_behind() -> None:
    """At most a whole burst ahead of now; a nanosecond more was left by another limit, or damage."""
    full = 0
    for _ in range(5):
        full, _ = admit(full, NOW, 10 * MS, 3)
    assert full == NOW + 30 * MS
    assert is_possible(0, NOW, 10 * MS, 3)
    assert is_possible(full, NOW, 10 * MS, 3)
    assert not is_possible(full + 1, NOW, 10 * MS, 3)

"""The threshold: two counters in a word, as close to the exact sliding window as they claim to be."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.policy.threshold import count
from oracles.sliding_window import SlidingWindow

S = 1_000_000_000
NOW = 12_345 * S
MOST = (1 << 22) - 1

flows = st.lists(st.integers(0, 400) | st.integers(0, 5_000), min_size=1, max_size=150)


def run(times_ns: list[int], limit: int, window_ns: int) -> list[bool]:
    """Return which of these events exceed the threshold."""
    word, exceeded = 0, []
    for now_ns in times_ns:
        word, exceeds = count(word, now_ns, limit, window_ns)
        exceeded.append(exceeds)
    return exceeded


def test_only_what_is_above_the_cap_is_forwarded() -> None:
    """`100/s`: of 150 events at once the first 100 are noise and the other 50 are not."""
    assert run([NOW] * 150, 100, S) == [False] * 100 + [True] * 50


def test_at_the_cap_nothing_is_forwarded() -> None:
    """100 events a second, evenly, for ten seconds, do not exceed `100/s`."""
    assert not any(run([NOW + i * S // 100 for i in range(1000)], 100, S))


def test_while_the_rate_stays_above_the_cap_all_are_forwarded() -> None:
    """At 150 a second each event finds 150 in its window, once a window has filled up."""
    exceeded = run([NOW + i * S // 150 for i in range(1500)], 100, S)
    assert exceeded.index(True) == 100
    assert all(exceeded[100:])


def test_after_a_pause_counting_begins_anew() -> None:
    """A surge is forgotten after two windows at the latest."""
    surge = [NOW] * 1000
    assert run([*surge, NOW + 2 * S], 1, S)[-1] is False


@given(flows, st.integers(1, 40), st.integers(1, 2_000), st.integers(0, 2**62))
def test_the_estimate_is_within_its_bound(
    gaps: list[int], limit: int, window: int, start: int
) -> None:
    """estimate - exact lies between -(f * n + 1) and (1 - f) * n, n being the events of the fixed
    window before and f the share of the present one that is gone; so a decision differs from the
    exact one only where the exact number is that close to the limit."""
    exact = SlidingWindow(window)
    word = 0
    for now in accumulate(gaps, initial=start):
        word, exceeds = count(word, now, limit, window)
        number = exact.add(now)
        below, above = exact.error_bounds()
        if number - below > limit:
            assert exceeds
        if number + above <= limit:
            assert not exceeds


@given(st.integers(20, 400), st.integers(1, 40), st.integers(100, 2_000), st.integers(0, 2**40))
def test_for_an_even_flow_it_is_off_by_one_at_most(
    gap: int, limit: int, window: int, start: int
) -> None:
    """The bound is the worst case; a flow that has been even for two windows is counted as well as
    exactly."""
    exact = SlidingWindow(window)
    word = 0
    for i in range(2 * window // gap + 100):
        now = start + i * gap
        word, exceeds = count(word, now, limit, window)
        if now < start + window:  # in no window that is judged
            continue
        number = exact.add(now)
        if now < start + 2 * window:
            continue
        if number > limit + 1:
            assert exceeds
        if number < limit:
            assert not exceeds


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**63), st.integers(1, 10**6))
def test_any_word_becomes_a_word(word: int, now: int, limit: int) -> None:
    """Whatever stood there, the new word fits 64 bits and its tag is of the present window."""
    new, _ = count(word, now, limit, S)
    assert 0 <= new < 2**64
    assert new >> 44 == now // S % 2**20
    assert new & MOST >= 1


def test_a_count_stops_at_its_end() -> None:
    """Four million events in a window are the most that are counted; the counter beside it stays."""
    tag = NOW // S
    word = (tag % 2**20) << 44 | 5 << 22 | MOST
    assert count(word, NOW, 10**6, S) == (word, True)


@pytest.mark.parametrize("windows", [2, 3, 2**19, 2**20 - 1])
def test_old_words_count_for_nothing(windows: int) -> None:
    """A word from two or more windows ago, or from a later time (another boot's), is empty."""
    word, _ = count(0, NOW, 1, S)
    word, _ = count(word, NOW, 1, S)
    assert count(word, NOW + windows * S, 1, S)[1] is False

"""How many lines a log gets at most."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fluxhook.logs.limit import PER_ENDPOINT, PER_LOGGER, WINDOW_S, LineLimit


def test_a_thousand_endpoints_at_once_are_a_bounded_number_of_lines() -> None:
    """A logger writes PER_LOGGER lines in a minute, and what it did not write is counted by kind."""
    limit = LineLimit()
    written = sum(
        limit.admit("fluxhook.endpoint", f"e{n}", kind, 0.001 * n)
        for n in range(1000)
        for kind in ("failing", "breaker_opened")
    )
    assert written == PER_LOGGER
    (left,) = limit.over(WINDOW_S)
    assert left.lines == 2000 - PER_LOGGER
    assert sum(left.kinds.values()) == left.lines
    assert left.endpoints == 1000 - PER_LOGGER // 2


def test_one_that_flaps_leaves_room_for_the_others() -> None:
    """An endpoint has PER_ENDPOINT lines of its logger's, however often it changes."""
    limit = LineLimit()
    assert sum(limit.admit("l", "flaps", "k", n / 100) for n in range(1000)) == PER_ENDPOINT
    assert limit.admit("l", "other", "k", 10.0)
    assert limit.admit("l", "", "k", 10.0)


def test_loggers_do_not_take_room_from_each_other() -> None:
    """A flood of one is none of another."""
    limit = LineLimit(per_logger=1)
    assert limit.admit("a", "", "k", 0.0)
    assert not limit.admit("a", "", "k", 0.0)
    assert limit.admit("b", "", "k", 0.0)


def test_a_window_without_a_flood_says_nothing() -> None:
    """Only what was left out is said."""
    limit = LineLimit()
    limit.admit("a", "", "k", 0.0)
    assert limit.over(WINDOW_S - 0.1) == []
    assert limit.over(WINDOW_S) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.sampled_from(["", "x", "y"]),
            st.floats(0, 20, allow_nan=False),
        ),
        max_size=200,
    )
)
def test_every_line_is_written_or_counted(lines: list[tuple[str, str, float]]) -> None:
    """No window has more than its bounds, and what is written and what is left out is all."""
    limit, now, written, left = LineLimit(per_logger=4, per_endpoint=2), 0.0, 0, 0
    windows: dict[str, tuple[float, Counter[str]]] = {}
    for logger, endpoint, wait in lines:
        now += wait
        left += sum(one.lines for one in limit.over(now))
        began, counts = windows.get(logger, (now, Counter()))
        if now - began >= WINDOW_S:
            began, counts = now, Counter()
        windows[logger] = began, counts
        if limit.admit(logger, endpoint, "k", now):
            written += 1
            counts[endpoint] += 1
            assert counts.total() <= 4
            assert not endpoint or counts[endpoint] <= 2
    left += sum(one.lines for one in limit.over(now, all=True))
    assert written + left == len(lines)


def test_what_was_left_out_is_said_at_its_level() -> None:
    """A log of errors alone says how many errors it left out."""
    limit = LineLimit(per_logger=1)
    for level in (30, 40, 20):
        limit.admit("a", "", "k", 0.0, level)
    (left,) = limit.over(WINDOW_S)
    assert left.level == 40

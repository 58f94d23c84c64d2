"""The engine's clock is immune to whatever the wall clock is set to, and both can be compared."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxhook.policy.clock import STEP_NS, Clock, Offset, begin, look

S = 1_000_000_000
HOUR = 3600 * S
#: when the tests' data directory was new
T0 = 1_800_000_000 * S


def new() -> Clock:
    return look(begin(Clock(), "boot", 7 * S, T0, 0), T0, T0)


def test_a_new_clock_is_the_wall_clock() -> None:
    """So a data directory of before has nothing to convert."""
    clock = new()
    assert clock.origin_ns + 7 * S == T0
    assert clock.offset_ns == 0
    assert clock.wall_ns(T0 + 5) == T0 + 5


def test_what_was_stored_is_never_in_the_future() -> None:
    """If nothing else is known, the newest row says how late it is at least."""
    clock = begin(Clock(), "boot", 7 * S, T0, T0 + HOUR)
    assert clock.origin_ns + 7 * S == T0 + HOUR
    assert look(clock, T0 + HOUR, T0).offset_ns == -HOUR


def test_a_restart_counts_the_time_since_the_boot() -> None:
    """Whatever the wall clock shows by then."""
    for wall_ns in (T0 - HOUR, T0 + 100 * HOUR):
        clock = begin(new(), "boot", 17 * S, wall_ns, 0)
        assert clock.origin_ns + 17 * S == T0 + 10 * S
        assert look(clock, T0 + 10 * S, wall_ns).wall_ns(T0 + 11 * S) == wall_ns + S


def test_another_boot_takes_the_time_from_the_wall_clock() -> None:
    """By the offset that was known, so that a clock set before does not count twice."""
    before = look(new(), T0 + 60 * S, T0 + 60 * S - HOUR)
    clock = begin(before, "next", 3 * S, T0 + 90 * S - HOUR, 0)
    assert clock.origin_ns + 3 * S == T0 + 90 * S
    assert look(clock, T0 + 90 * S, T0 + 90 * S - HOUR).offsets == before.offsets


def test_no_time_comes_again() -> None:
    """A machine that boots with an older time goes on from the last look."""
    before = look(new(), T0 + 60 * S, T0 + 60 * S)
    clock = begin(before, "next", 3 * S, T0 - 50 * 365 * 24 * HOUR, 0)
    assert clock.origin_ns + 3 * S == T0 + 60 * S


def test_small_differences_are_no_step() -> None:
    """Two readings of clocks are never quite of the same moment."""
    clock = look(new(), T0 + S, T0 + S + STEP_NS)
    assert clock.offset_ns == 0
    assert clock.seen_ns == T0 + S


def test_a_step_is_more_than_a_tenth_of_a_second() -> None:
    """In either direction."""
    clock = new()
    for sign in (1, -1):
        assert not clock.is_set(T0 + S, T0 + S + sign * 100_000_000)
        assert clock.is_set(T0 + S, T0 + S + sign * 100_000_001)


def test_a_clock_of_nothing() -> None:
    """No boot, no time, one offset of nothing."""
    assert Clock() == Clock(boot_id="", origin_ns=0, seen_ns=0, offsets=(Offset(0, 0, 0),))


@pytest.mark.parametrize(("newest_ns", "seen_ns"), [(0, 100), (50, 50), (200, 200)])
def test_a_clock_that_begins_has_seen_something(newest_ns: int, seen_ns: int) -> None:
    """It has seen what is in the store, or else the present: the next look must not take its time for
    a step."""
    clock = begin(Clock(), "boot", 7, 100, newest_ns)
    assert clock.seen_ns == seen_ns
    assert begin(clock, "boot", 8, 0, 0).seen_ns == seen_ns


#: set back by 57 between 100 and 110, and forward by 80 between 200 and 220
SET_TWICE = Clock(offsets=(Offset(0, 0, 7), Offset(100, 110, -50), Offset(200, 220, 30)))


@pytest.mark.parametrize(
    ("at", "wall"),
    [(-5, 2), (0, 7), (1, 8), (100, 107), (101, 51), (200, 150), (201, 231), (1000, 1030)],
)
def test_the_wall_time_of_a_moment(at: int, wall: int) -> None:
    """By the offset since the look before the clock was set; before all, by the first."""
    assert SET_TWICE.wall_ns(at) == wall


@pytest.mark.parametrize(
    ("wall", "age"),
    [
        (250, 80),  # by the last offset
        (150, 100),  # by the second: the last one never showed it
        (60, 190),  # twice, and the latter counts
        (37, 270),  # by the first
        (171, 80),  # by none; as near as the second comes, which held until 220
        (330, 0),
        (335, 0),  # dated a little ahead
        (-100, 300),  # before anything is known
    ],
)
def test_the_age_of_what_is_dated(wall: int, age: int) -> None:
    """Of what may have been dated by any of the offsets, the nearest, and then the latest."""
    assert SET_TWICE.age_ns(wall, 300) == age


@pytest.mark.parametrize(("at", "earliest"), [(250, 280), (221, 251), (220, 170), (50, 50)])
def test_the_earliest_date_since_a_moment(at: int, earliest: int) -> None:
    """By each offset that may have held then or since."""
    assert SET_TWICE.earliest_wall_ns(at) == earliest


@pytest.mark.parametrize(("wall", "earliest"), [(400, 370), (118, 168), (117, 110), (20, 13)])
def test_the_earliest_moment_of_a_date(wall: int, earliest: int) -> None:
    """By each offset by which it may have been dated so."""
    assert SET_TWICE.earliest_ns(wall) == earliest


@pytest.mark.parametrize(
    ("time", "ok"), [(2**62, True), (2**62 + 1, False), (-(2**62), True), (-(2**62) - 1, False)]
)
def test_no_time_beyond_2116_is_read(time: int, ok: bool) -> None:
    """Sums and differences of two that were read fit 64 bits."""
    text = b'{"origin_ns": %d}' % time
    if ok:
        assert msgspec.json.decode(text, type=Clock).origin_ns == time
    else:
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(text, type=Clock)


def test_times_before_a_step_stay_what_they_were() -> None:
    """The wall time of a moment is what the clock showed then."""
    clock = look(look(new(), T0 + 50 * S, T0 + 50 * S), T0 + 51 * S, T0 + 51 * S + HOUR)
    assert clock.wall_ns(T0 + 10 * S) == T0 + 10 * S
    assert clock.wall_ns(T0 + 60 * S) == T0 + 60 * S + HOUR
    assert clock.age_ns(T0 + 10 * S, T0 + 60 * S) == 50 * S
    assert clock.age_ns(T0 + 52 * S + HOUR, T0 + 60 * S) == 8 * S


def test_nobody_looked_for_long() -> None:
    """The clock was set at some time while no engine ran, and hosts went on to emit: each event is as
    old as it is, whether it came before or after."""
    for step_ns in (-HOUR, 30 * HOUR):
        clock = look(new(), T0 + 10 * HOUR, T0 + 10 * HOUR + step_ns)
        now_ns = T0 + 10 * HOUR + 60 * S
        clock = look(clock, now_ns, now_ns + step_ns)
        before_ns, after_ns = T0 + 9 * HOUR + 50 * 60 * S, T0 + 10 * HOUR - S
        assert clock.age_ns(before_ns, now_ns) == now_ns - before_ns
        assert clock.age_ns(after_ns + step_ns, now_ns) == now_ns - after_ns


def test_what_is_dated_now_is_young() -> None:
    """A record's time is read after the worker's, and by a clock that is off by a little."""
    clock = look(new(), T0 + S, T0 + S - HOUR)
    assert clock.age_ns(T0 + 9 * S - HOUR + S // 2, T0 + 9 * S) == 0
    assert clock.is_set(T0 + 9 * S, T0 + 9 * S)
    assert not clock.is_set(T0 + 9 * S, T0 + 9 * S - HOUR)


def test_many_steps_are_forgotten_from_the_first() -> None:
    """The oldest that is known then holds for all before it."""
    clock = new()
    for i in range(1, 200):
        clock = look(clock, T0 + i * S, T0 + i * S + i * HOUR)
    assert len(clock.offsets) == 64
    assert clock.wall_ns(T0) == T0 + 136 * HOUR
    assert clock.offsets[0] == Offset(0, T0 + 136 * S, 136 * HOUR)


def test_a_clock_survives_being_written() -> None:
    """In the store and in the snapshot it is JSON."""
    clock = look(new(), T0 + S, T0 - HOUR)
    assert msgspec.json.decode(msgspec.json.encode(clock), type=Clock) == clock


#: what passes, and by how much the wall clock is set then
_life = st.lists(
    st.tuples(
        st.integers(0, 10 * HOUR),
        st.just(0) | st.integers(-30 * HOUR, -HOUR // 60) | st.integers(HOUR // 60, 30 * HOUR),
    ),
    max_size=8,
)


@given(_life, st.data())
def test_a_whole_life(life: list[tuple[int, int]], data: Any) -> None:
    """Looked at each second, it goes on as true time does. Nothing is held for older than it is, nor
    for younger where the wall clock showed its time once; bounds hold for all that was dated."""
    true_ns, offset_ns, clock = T0, 0, new()
    dated: list[tuple[int, int]] = []
    for passed_ns, step_ns in life:
        for moment_ns in sorted({passed_ns // 3, passed_ns}):
            dated.append((true_ns + moment_ns, true_ns + moment_ns + offset_ns))
        true_ns += passed_ns
        clock = look(clock, true_ns, true_ns + offset_ns)
        offset_ns += step_ns
        true_ns += S
        clock = look(clock, true_ns, true_ns + offset_ns)
    now_ns = true_ns
    slack_ns = 5 * S + 2 * STEP_NS * len(clock.offsets)
    for at_ns, wall_ns in dated:
        age_ns = clock.age_ns(wall_ns, now_ns)
        assert age_ns <= now_ns - at_ns + slack_ns
        shown = [s for s in _shown(clock, wall_ns, now_ns) if abs(s - at_ns) > slack_ns]
        if not shown:
            assert abs(age_ns - (now_ns - at_ns)) <= slack_ns
        assert abs(clock.wall_ns(at_ns) - wall_ns) <= STEP_NS
    if dated:
        since_ns, since_wall_ns = data.draw(st.sampled_from(dated))
        earliest_ns = clock.earliest_wall_ns(since_ns)
        assert all(wall + slack_ns >= earliest_ns for at, wall in dated if at >= since_ns)
        first_ns = clock.earliest_ns(since_wall_ns)
        assert all(at + slack_ns >= first_ns for at, wall in dated if wall >= since_wall_ns)


def _shown(clock: Clock, wall_ns: int, now_ns: int) -> list[int]:
    """The engine times at which the wall clock showed that."""
    return [
        wall_ns - offset_ns
        for after_ns, until_ns, offset_ns in clock.spans(now_ns)
        if after_ns - 3 * S <= wall_ns - offset_ns <= until_ns + 3 * S
    ]

"""Sums instead of single lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fluxhook.policy.tally import GATHER_NS, PAUSE_NS, Sum, Tally

S = 1_000_000_000


def test_the_first_sum_comes_soon_and_the_next_a_minute_later() -> None:
    """Two thousand at once are one sum; those that come after it are the next."""
    tally: Tally[str] = Tally()
    for n in range(2000):
        tally.add("a", f"evt_{n}")
    assert tally.due(0) == []
    assert tally.due(GATHER_NS) == [("a", Sum(2000, "evt_0", "evt_1999"))]
    tally.add("a", "evt_x")
    assert tally.due(GATHER_NS + PAUSE_NS - 1) == []
    assert tally.due(GATHER_NS + PAUSE_NS) == [("a", Sum(1, "evt_x", "evt_x"))]


def test_keys_do_not_wait_for_each_other() -> None:
    """Another endpoint, or another cause, is said at its own time."""
    tally: Tally[str] = Tally()
    tally.add("a")
    tally.due(0)
    tally.due(GATHER_NS)
    tally.add("b")
    tally.due(2 * S)
    assert [key for key, _ in tally.due(3 * S)] == ["b"]


def test_at_the_end_all_is_said() -> None:
    """Nothing that was counted is lost with the process."""
    tally: Tally[str] = Tally()
    tally.add("a")
    assert tally.due(0, all=True) == [("a", Sum(1, "", ""))]
    assert tally.due(10**12, all=True) == []


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 5), st.integers(0, 90))))
def test_everything_is_in_one_sum_and_none_comes_twice_a_minute(
    adds: list[tuple[str, int, int]],
) -> None:
    """Sums of a key are a minute apart, and together they are all that was counted."""
    tally: Tally[str] = Tally()
    now_ns, said, total = 0, {"a": -PAUSE_NS, "b": -PAUSE_NS}, 0
    for key, n, wait_s in adds:
        now_ns += wait_s * S
        tally.add(key, n=n)
        for name, said_now in tally.due(now_ns):
            assert now_ns - said[name] >= PAUSE_NS
            said[name] = now_ns
            total += said_now.total
    total += sum(one.total for _, one in tally.due(now_ns, all=True))
    assert total == sum(n for _, n, _ in adds)


def test_one_that_was_quiet_for_long_is_gathered_like_the_first() -> None:
    """The sum takes in all of the next second, whether or not anybody asked before."""
    tally: Tally[str] = Tally()
    tally.add("a")
    tally.due(0)
    tally.due(GATHER_NS)
    later_ns = GATHER_NS + 3 * PAUSE_NS
    tally.add("a", "x")
    assert tally.due(later_ns) == []
    tally.add("a", "y")
    assert tally.due(later_ns + GATHER_NS) == [("a", Sum(2, "x", "y"))]

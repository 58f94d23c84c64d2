"""bench.runner: how often a row is repeated, and how long it may take."""

from __future__ import annotations

import pytest
from bench.measure import MIN_REPEATS, Figures
from bench.rows import Load, Row
from bench.runner import MAX_REPEATS, again, losses, outcome, shares

ROW = Row("a", "A", Load(), 100, key="cpu")
STEADY: list[Figures] = [{"cpu": 10.0}] * MIN_REPEATS
UNSTEADY: list[Figures] = [{"cpu": value} for value in (5.0, 10.0, 20.0)]


def test_a_row_is_repeated_at_least_so_often() -> None:
    """Even where the time is used up: a single figure has no spread."""
    assert again(ROW, STEADY[:-1], MIN_REPEATS, passed_s=99, share_s=1)


def test_a_steady_row_is_done() -> None:
    """Time that is left is for others."""
    assert not again(ROW, STEADY, MIN_REPEATS, passed_s=1, share_s=99)


def test_an_unsteady_row_goes_on_while_there_is_time() -> None:
    """But not into a repeat that would not fit, and not for ever."""
    assert again(ROW, UNSTEADY, MIN_REPEATS, passed_s=3, share_s=4)
    assert not again(ROW, UNSTEADY, MIN_REPEATS, passed_s=3, share_s=3.9)
    assert not again(ROW, UNSTEADY * MAX_REPEATS, MIN_REPEATS, passed_s=3, share_s=999)


def test_some_rows_run_once() -> None:
    """A million events are not repeated."""
    once = ROW._replace(once=True)
    assert again(once, [], MIN_REPEATS, 0, 0)
    assert not again(once, UNSTEADY[:1], MIN_REPEATS, 0, 99)


def test_what_one_row_leaves_is_shared_by_the_others() -> None:
    """And what one takes too much, they lack."""
    first, second, third = shares([1, 1, 2], 40)
    assert first(0) == 10
    assert second(4) == 12
    assert third(50) == 0


def test_losses_are_everybodys() -> None:
    """Ours, the contenders', lost and surplus, of all repeats; nothing else is added up."""
    runs = [{"engine.lost": 1.0, "engine.cpu": 20.0}, {"bare.lost": 2.0, "engine.surplus": 4.0}]
    assert losses(runs) == 7


def test_an_outcome_says_whether_it_is_steady() -> None:
    """Once, and unknown, are neither."""
    assert outcome(ROW, STEADY, 100, {}, {})["steady"] is True
    assert outcome(ROW, UNSTEADY, 100, {}, {})["steady"] is False
    assert outcome(ROW._replace(once=True), STEADY, 100, {}, {})["steady"] is None
    assert outcome(ROW, [{}], 100, {}, {})["spread"] is None


def test_the_outcome_has_the_row_in_words() -> None:
    """Topology, bytes, durability, answer: what a figure is worth nothing without."""
    found = outcome(ROW, STEADY, 77, {"httpx": "not installed"}, {})
    assert found["topology"] == "1 x 1 x 1"
    assert (found["n"], found["payload"], found["durability"]) == (77, 600, "process")
    assert found["summary"]["cpu"]["median"] == pytest.approx(10)

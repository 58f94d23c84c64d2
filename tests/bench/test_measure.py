"""bench.measure: statistics of repeats."""

from __future__ import annotations

import pytest
from bench.measure import MAX_SPREAD, MIN_REPEATS, percentile, quartiles, spread, steady, summarize


def test_a_percentile_is_a_value_that_was_measured() -> None:
    """Nearest rank: nothing is interpolated, and the last is the end of it."""
    ordered = [float(n) for n in range(100)]
    assert [percentile(ordered, share) for share in (0.0, 0.5, 0.99, 1.0)] == [0, 50, 99, 99]
    assert percentile([7.0], 0.5) == 7


def test_the_spread_is_that_of_the_middle_half() -> None:
    """One repeat that a neighbour disturbed does not make four others unsteady."""
    assert quartiles([1, 2, 3, 4, 5]) == (2, 4)
    assert spread([100, 100, 101, 102, 900]) == pytest.approx(2 / 101)


def test_a_figure_that_is_always_zero_does_not_spread() -> None:
    """Losses, for one."""
    assert spread([0, 0, 0]) == 0


def test_few_repeats_are_never_steady() -> None:
    """Two that happen to agree say nothing."""
    assert not steady([10.0] * (MIN_REPEATS - 1))
    assert steady([10.0] * MIN_REPEATS)


def test_the_criterion_is_the_stated_one() -> None:
    """At most MAX_SPREAD."""
    assert steady([100 - 50 * MAX_SPREAD, 100, 100 + 50 * MAX_SPREAD])
    assert not steady([100 - 150 * MAX_SPREAD, 100, 100 + 150 * MAX_SPREAD])


def test_a_summary_takes_the_repeats_that_have_the_figure() -> None:
    """A contender may fall out half-way."""
    found = summarize([{"a": 1.0, "b": 5.0}, {"a": 3.0}])
    assert found["a"][:3] == (2.0, 1.0, 3.0)
    assert found["b"].repeats == 1

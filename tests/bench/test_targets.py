"""bench.targets: each target and what a run says to it."""

from __future__ import annotations

from typing import Any

import pytest
from bench.targets import TARGETS, Target, Verdict, judge

MOST = Target("at most", 2.0, "us", "a", "x")
LEAST = Target("at least", 2.0, "/s", "a", "x", at_most=False)


@pytest.mark.parametrize(
    ("target", "figure", "answer"),
    [
        (MOST, 2.0, "yes"),
        (MOST, 2.01, "no"),
        (LEAST, 2.0, "yes"),
        (LEAST, 1.99, "no"),
        (MOST, None, "not measured in this run"),
    ],
)
def test_the_answer_is_plain(target: Target, figure: float | None, answer: str) -> None:
    """Yes, no, or not measured; a bound that is just reached is met."""
    assert Verdict(target, figure).answer == answer


def test_nothing_is_judged_that_was_not_measured() -> None:
    """A row that was left out, or lacks the figure, has no verdict."""
    assert {verdict.answer for verdict in judge({})} == {"not measured in this run"}
    assert len(judge({"main": {"summary": {}, "absent": {}}})) == len(TARGETS)


@pytest.mark.parametrize(
    ("name", "just", "missed"), [("notifier", 1.25, 1.24), ("notifier-200", 4.0, 3.99)]
)
def test_the_notifier_has_to_cost_more(name: str, just: float, missed: float) -> None:
    """Both of its rows have a bound of their own; without Go the answer says what to install."""
    why = "go is not installed: apt-get install golang-go"
    figure = f"times.{name}"

    def answer(row: dict[str, dict[str, Any]]) -> str:
        verdict = next(v for v in judge({"main": row}) if v.target.figure == figure)
        return verdict.answer

    assert answer({"summary": {figure: {"median": just}}, "absent": {}}) == "yes"
    assert answer({"summary": {figure: {"median": missed}}, "absent": {}}) == "no"
    absent = answer({"summary": {}, "absent": {name: why}})
    assert absent == f"not measured in this run: {why}"


def test_the_median_is_judged() -> None:
    """Of the repeats."""
    rows = {"main": {"summary": {"ratio.worker": {"median": 1.15}}, "absent": {}}}
    found = {v.target.figure: v for v in judge(rows) if v.figure is not None}
    assert found["ratio.worker"].answer == "yes"
    assert len(found) == 1

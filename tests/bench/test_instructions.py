"""bench.instructions: the guard that counts instead of timing."""

from __future__ import annotations

import json

import pytest
from bench.instructions import (
    FOREIGN_TOLERANCE,
    RECORD,
    TOLERANCE,
    WORKER_TOLERANCE,
    build,
    compare,
    count,
    slopes,
)
from bench.programs.counted import LONG, OPERATIONS, REFERENCE, SHORT

COUNTS = {name: 1000 * (n + 1) for n, name in enumerate(OPERATIONS)}


@pytest.mark.timeout(600)  # callgrind, 20 s on a machine that is at rest
def test_no_operation_takes_more_instructions_than_recorded() -> None:
    """From an emit to a report, each within the tolerance of bench/instructions.json. After a
    change that is meant to cost more: python -m bench.instructions --update"""
    findings = compare(count(), json.loads(RECORD.read_text()), build())
    assert all(finding.passed for finding in findings), "\n".join(map(str, findings))


def test_starts_and_warm_ups_are_not_counted() -> None:
    """Only the difference of two lengths is."""
    totals = []
    for name in OPERATIONS:
        totals += [10**9, 555 + SHORT * COUNTS[name], 555 + LONG * COUNTS[name]]
    assert slopes([*totals, 10**6]) == COUNTS


def test_a_mark_that_is_missing_is_noticed() -> None:
    """Else every figure after it would be another operation's."""
    with pytest.raises(ValueError, match="parts"):
        slopes([1, 2, 3])


@pytest.mark.parametrize(
    ("factor", "passed"), [(0.5, True), (1 + TOLERANCE - 0.01, True), (1 + TOLERANCE + 0.01, False)]
)
def test_more_than_the_tolerance_fails(factor: float, passed: bool) -> None:
    """Less is always well."""
    counts = COUNTS | {"emit": int(COUNTS["emit"] * factor)}
    found = {f.operation: f.passed for f in compare(counts, {"this": COUNTS}, "this")}
    assert found == {name: name != "emit" or passed for name in OPERATIONS if name != REFERENCE}


@pytest.mark.parametrize("operation", WORKER_TOLERANCE)
def test_a_worker_may_take_less_more(operation: str) -> None:
    """2 %: most of it is Python, which repeats."""
    limit = COUNTS[operation] * (1 + WORKER_TOLERANCE[operation])
    for factor, failed in ((0.999, []), (1.001, [operation])):
        counts = COUNTS | {operation: round(limit * factor)}
        found = compare(counts, {"this": COUNTS}, "this")
        assert [f.operation for f in found if not f.passed] == failed


def test_another_build_is_compared_in_proportion() -> None:
    """An interpreter that takes twice as many for the reference may take twice as many for all."""
    slower = {name: 2 * counted for name, counted in COUNTS.items()}
    assert all(f.passed for f in compare(slower, {"that": COUNTS}, "this"))
    worse = slower | {"sign": int(slower["sign"] * (1 + FOREIGN_TOLERANCE) + 2)}
    assert [f.operation for f in compare(worse, {"that": COUNTS}, "this") if not f.passed] == [
        "sign"
    ]


def test_the_nearest_build_is_taken() -> None:
    """By what the reference costs there."""
    far = dict.fromkeys(OPERATIONS, 100) | {REFERENCE: 50}
    assert all(f.passed for f in compare(COUNTS, {"far": far, "near": COUNTS}, "this"))


def test_an_empty_record_says_what_to_do() -> None:
    """Nothing to compare with is no success."""
    with pytest.raises(ValueError, match="--update"):
        compare(COUNTS, {}, "this")

"""What is drawn of the history's points."""

from __future__ import annotations

from typing import Any

import pytest

from fluxhook.admin.dashboard.widgets.charts import line_data
from fluxhook.admin.history import GAP_S, INTERVAL_S, Point

DOT = "circle"


def drawn(points: list[Point]) -> list[Any]:
    """Return for each datum its second, its value, and whether it is a dot."""
    found = []
    for one in line_data(points, "accepted"):
        value = one["value"] if isinstance(one, dict) else one
        found.append((value[0] // 1000, value[1], isinstance(one, dict) and one["symbol"] == DOT))
    return found


def line(*values: float | None, step_s: float = INTERVAL_S) -> list[Point]:
    return [Point(100 + i * step_s, value) for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], []),
        (line(1.0), [(100, 1.0, True)]),
        (line(1.0, 2.0), [(100, 1.0, False), (110, 2.0, False)]),
        (line(None, 2.0, None), [(100, None, False), (110, 2.0, True), (120, None, False)]),
        (line(None, 0.0), [(100, None, False), (110, 0.0, True)]),
        (line(1.0, 2.0, None)[:2], [(100, 1.0, False), (110, 2.0, False)]),
    ],
)
def test_a_single_point_is_a_dot(points: list[Point], expected: list[Any]) -> None:
    """A line between two points needs none."""
    assert drawn(points) == expected


def test_a_line_is_broken_where_nothing_is_known() -> None:
    """Also of what both of its ends know, as how many waited."""
    long = GAP_S + 1
    assert drawn(line(1.0, 2.0, step_s=long)) == [
        (100, 1.0, True),
        (100, None, False),
        (100 + long, 2.0, True),
    ]
    assert drawn(line(1.0, 2.0, step_s=GAP_S)) == [(100, 1.0, False), (125, 2.0, False)]

"""bench.svg and bench.charts: pictures of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from bench.charts import charts, draw
from bench.svg import HEIGHT, WIDTH, Chart, Line, nice_ticks, render, scale

NAMESPACE = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("low", "high", "log", "expected"),
    [
        (0, 97, False, [0, 20, 40, 60, 80, 100]),
        (0, 3, False, [0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]),
        (3, 900, True, [1, 10, 100, 1000]),
        (10, 10, True, [10, 100]),
    ],
)
def test_ticks_are_round_and_enclose(
    low: float, high: float, log: bool, expected: list[float]
) -> None:
    """At most a handful, and nothing lies outside of them."""
    assert nice_ticks(low, high, log) == pytest.approx(expected)


def test_a_scale_goes_from_edge_to_edge() -> None:
    """Linear and logarithmic; one value alone is at the start."""
    assert [scale(0, 10, False, 100, 200)(x) for x in (0, 5, 10)] == [100, 150, 200]
    assert [scale(1, 100, True, 0, 2)(x) for x in (1, 10, 100)] == [0, 1, 2]
    assert scale(5, 5, False, 7, 9)(5) == 7


def test_a_chart_is_well_formed_and_inside_its_frame() -> None:
    """Labels are escaped, each line is drawn, no mark lies outside."""
    chart = Chart("a < b & c", "x", "y", [Line("one", [(1, 5), (1000, 2)]), Line("two", [(1, 9)])])
    root = ElementTree.fromstring(render(chart))
    assert root.findtext(f"{NAMESPACE}title") == "a < b & c"
    assert len(root.findall(f"{NAMESPACE}polyline")) == 2
    for circle in root.iter(f"{NAMESPACE}circle"):
        assert 0 <= float(circle.get("cx", "-1")) <= WIDTH
        assert 0 <= float(circle.get("cy", "-1")) <= HEIGHT


def test_a_chart_needs_points() -> None:
    """An empty frame would look like a measurement."""
    with pytest.raises(ValueError, match="no points"):
        render(Chart("empty", "x", "y", []))


def row(name: str, in_flight: int) -> dict[str, Any]:
    summary = {"engine.rate": {"median": 40_000.0}, "engine.emit.p50": {"median": 1.5}}
    return {
        "name": name,
        "in_flight": in_flight,
        "endpoints": 1,
        "series": {},
        "summary": summary,
    }


def test_only_what_was_measured_is_drawn() -> None:
    """A line needs two rows to compare; a partial run has fewer charts."""
    assert charts({}) == {}
    found = charts({"main": row("main", 32), "in-flight-4": row("in-flight-4", 4)})
    assert set(found) == {"throughput.svg", "emit.svg"}
    assert found["throughput.svg"].lines[0].points == [(4, 40_000.0), (32, 40_000.0)]


def test_a_folder_has_the_charts_of_one_run(tmp_path: Path) -> None:
    """Those of an older one, which this one did not draw, are removed."""
    (tmp_path / "old.svg").write_text("")
    titles = draw({"rows": [row("main", 32), row("in-flight-4", 4)]}, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(titles)
    assert "old.svg" not in titles

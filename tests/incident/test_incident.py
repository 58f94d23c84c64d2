"""The incident in small: every view shows the same of it, in its middle and after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from incident import pages, views
from incident.figures import Row, View, causes, compare, count, milliseconds, ratio, share, table
from incident.run import look, read, wait_for_history
from support.incident_scene import LONG, IncidentScene

TOLD = ["too-large", "breaker-open", LONG]


@pytest.fixture
def browser() -> Iterator[Browser]:
    with pages.chromium() as browser:
        yield browser


def differences(found: Mapping[str, View]) -> list[Row]:
    return [row for row in compare(found) if row.differing]


@pytest.mark.timeout(300)
def test_every_view_shows_the_same(browser: Browser, tmp_path: Path) -> None:
    """Each figure of each endpoint, while all goes wrong and when operators have put it right; what the
    script says is one of the views."""
    with IncidentScene(tmp_path, divisor=10) as scene:
        with pages.opened(browser, scene) as page:
            wait_for_history(scene)
            metrics = [scene.get("/metrics").text]
            script = views.expected_view(scene.play())
            metrics.append(scene.get("/metrics").text)
            found = read(scene, script, metrics, tmp_path) | {
                "overview": pages.endpoints_view(page),
                "page": pages.endpoint_pages_view(page, TOLD),
            }
            del found["history"]  # its next point is not there yet
            assert differences(found) == []
            script = views.expected_view(scene.mend(), mended=True)
            wait_for_history(scene)
            metrics.append(scene.get("/metrics").text)
            found = read(scene, script, metrics, tmp_path) | look(scene, page, TOLD)
        scene.end()
    assert differences(found | {"log": views.log_view(scene)}) == []


def test_a_view_that_differs_is_marked() -> None:
    """By its value, beside those that agree; a figure that a view does not show is no difference."""
    found: dict[str, View] = {
        "script": {"orders": {"dead": "2,000", "state": "failing"}},
        "api": {"orders": {"dead": "2,000", "state": "failing"}, "other": {"dead": "0"}},
        "log": {"orders": {"dead": "1,999"}},
    }
    rows = compare(found)
    assert [(row.endpoint, row.figure, row.agreed) for row in rows] == [
        ("orders", "state", "failing"),
        ("orders", "dead", "2,000"),
        ("other", "dead", "0"),
    ]
    assert [row.differing for row in rows] == [{}, {"log": "1,999"}, {}]
    assert table(rows, found).splitlines()[1:4] == [
        "orders   value    script  api  log",
        "  state  failing  =       =",
        "  dead   2,000    =       =    !! 1,999",
    ]


def test_a_figure_that_nobody_knows_is_an_error() -> None:
    """A misspelled one would be compared with nothing."""
    with pytest.raises(ValueError, match="deaths"):
        compare({"api": {"orders": {"deaths": "1"}}})


def test_figures_as_texts() -> None:
    """Shares are rounded down, to 100 % and 0 % only where they are; causes without any are left
    out."""
    assert [ratio(9999, 1), ratio(1, 99_999), ratio(0, 3), ratio(3, 0), ratio(0, 0)] == [
        "99.9 %",
        "0.1 %",
        "0 %",
        "100 %",
        "none",
    ]
    assert [share(0.99999), share(1.0), share(0.57), share(0.0), share(None)] == [
        "99.9 %",
        "100 %",
        "57 %",
        "0 %",
        "none",
    ]
    assert causes({"timeout": 2000, "gone": 0, "dns": 1}) == "dns 1, timeout 2,000"
    assert causes({"gone": 0}) == "none"
    assert (count(2000.0), count(0.5)) == ("2,000", "0.5")
    assert (milliseconds(786.432), milliseconds(0.192)) == ("790 ms", "0.19 ms")

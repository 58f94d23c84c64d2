"""bench.report: RESULTS.md."""

from __future__ import annotations

from typing import Any

import pytest
from bench.measure import Figures
from bench.rows import ROWS, Row
from bench.runner import outcome

from bench import report

BY_NAME = {row.name: row for row in ROWS}
ENGINE: Figures = {
    "engine.rate": 40_000.0,
    "engine.cpu": 22.0,
    "engine.worker": 18.0,
    "engine.emit.p50": 2.5,
    "engine.emit.p99": 9.0,
    "engine.lost": 0.0,
    "bare.rate": 55_000.0,
    "bare.cpu": 16.0,
    "bare.lost": 0.0,
    "aiohttp.rate": 15_000.0,
    "aiohttp.cpu": 66.0,
    "ratio.worker": 1.125,
    "ratio.engine": 1.375,
    "times.aiohttp": 3.0,
}
ENDS = [(end, share) for end in ("arrived", "read") for share in ("p50", "p99")]
FIGURES: dict[str, Figures] = {
    "Deliveries": ENGINE,
    "Failures": {"engine.rate": 20e3, "engine.retry.rate": 15e3, "engine.stored_bytes": 900.0},
    "Aggregated": {"engine.rate": 30e3, "engine.scheduler": 12.0},
    "Idle": {"p50": 150.0, "p99": 900.0},
    "Ingest": {
        **{f"without.{end}.{share}": 150.0 for end, share in ENDS},
        **{f"with.{end}.{share}": 160.0 for end, share in ENDS},
        **{f"{end}.{share}": 1.07 for end, share in ENDS},
        "ingested": 2000.0,
    },
    "HostImpact": {"with.p99": 500.0, "without.p99": 490.0, "ratio.p99": 1.02},
    "Memory": {"worker.rss": 110.0, "worker.own": 20.0, "worker.growth": 0.1},
    "Connections": {"one": 17.0, "many": 40.0, "opened": 400.0, "connection": 57.0},
    "Matching": {"10": 0.1, "10000": 0.2, "ratio": 2.0},
    "SystemCalls": {"calls": 2.05},
}


def measured(row: Row, figures: Figures, repeats: int = 3, **absent: str) -> dict[str, Any]:
    series = {"memory_mb": {"worker": [(n, 110.0, 20.0) for n in range(20)]}}
    return outcome(row, [figures] * repeats, 1000, absent, series) | {"seconds": 1.0}


def result(*rows: dict[str, Any], scale: float = 1.0) -> dict[str, Any]:
    return {
        "machine": {"processor": "Z80, 1 core", "fluxhook": "0.1.0, commit abc"},
        "cores": "one for all",
        "command": "python -m bench",
        "seconds": 200.0,
        "criterion": {"spread": 0.1, "repeats": 3},
        "scale": scale,
        "rows": list(rows),
    }


def everything() -> dict[str, Any]:
    rows = (measured(row, FIGURES[row.experiment]) for row in ROWS)
    return result(*rows)


def test_a_result_says_where_it_comes_from() -> None:
    """Machine, commit, exact command, criterion, caveats, charts."""
    text = report.render(everything(), {"emit.svg": "emit"})
    for part in ("Z80", "commit abc", "`python -m bench`", "within 10%", "## Caveats"):
        assert part in text
    assert "![emit](plots/emit.svg)" in text


def test_every_row_is_in_the_tables() -> None:
    """By its title."""
    text = report.tables(everything())
    for row in ROWS:
        if row.experiment in ("Deliveries", "HostImpact", "Connections"):
            assert row.title in text


def test_every_table_is_rectangular() -> None:
    """As many cells in each line as in the head."""
    width = 0
    for line in report.render(everything(), {}).splitlines():
        cells = line.count("|") if line.startswith("|") else 0
        assert not width or not cells or cells == width, line
        width = cells


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.name))
def test_a_run_of_one_row_can_be_printed(row: Row) -> None:
    """Whatever `--only` chose; what is missing is "not measured in this run"."""
    one = measured(row, FIGURES[row.experiment])
    assert "not measured in this run" in report.tables(result(one))
    assert row.name in report.line(one)


def test_what_beats_us_is_named() -> None:
    """Contenders with more requests a second, and targets that were missed; nobody else."""
    text = report.losing([measured(BY_NAME["main"], ENGINE)])
    assert (
        "bare pycurl loop sends more requests a second than we do: All contenders 1.38 times"
        in text
    )
    assert "target missed: whole engine CPU per delivery / bare loop" in text
    assert "aiohttp + uvloop sends" not in text


def test_losses_are_shown_where_they_were() -> None:
    """In the table's last column, and in the sum."""
    lossy = measured(BY_NAME["tls"], ENGINE | {"engine.lost": 2.0})
    text = report.render(result(lossy), {})
    assert "Losses: 6." in text
    line = next(line for line in text.splitlines() if line.startswith("| TLS"))
    assert line.endswith("| 6 |")


def test_unsteady_rows_are_marked() -> None:
    """In the table, and in the words above it."""
    runs = [ENGINE | {"ratio.engine": ratio} for ratio in (1.0, 2.0, 4.0)]
    row = outcome(BY_NAME["tls"], runs, 1000, {}, {}) | {"seconds": 1.0}
    text = report.render(result(row), {})
    assert "75% **unsteady**" in text
    assert "Unsteady: tls." in text


def test_who_is_absent_has_a_line() -> None:
    """And it says how to get it."""
    row = measured(BY_NAME["main"], ENGINE, pyreqwest="pyreqwest is not installed: pip install it")
    assert "| pyreqwest is not installed: pip install it |" in report.contenders(row)


def test_a_short_run_says_so() -> None:
    """Fewer events than usual are not passed off as a full run."""
    assert "(10% of the usual)" in report.render(result(scale=0.1), {})


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, ""), (0.123, "0.12"), (12.34, "12.3"), (1234.5, "1,234"), (0, "0.00")],
)
def test_numbers_have_the_digits_that_mean_something(value: float | None, expected: str) -> None:
    """Three of them, about."""
    assert report.number(value) == expected

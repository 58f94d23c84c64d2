"""The figures of endpoints as several views show them, and where these differ.

A view maps each endpoint to what it shows of it: a figure's name, and its value as a text. It leaves
out the figures that it does not show, which is no difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Final, NamedTuple

__all__ = [
    "ALL",
    "Row",
    "View",
    "causes",
    "compare",
    "count",
    "milliseconds",
    "ratio",
    "share",
    "table",
]

View = dict[str, dict[str, str]]

#: stands for all endpoints together
ALL: Final = "(all)"
#: in the order of the table
FIGURES: Final = (
    "state",
    "accepted",
    "filtered",
    "delivered",
    "dead",
    "dead by cause",
    "dead cause",
    "died by cause",
    "dropped",
    "dropped by policy",
    "pending",
    "queued",
    "stored",
    "refused",
    "aggregated",
    "skipped",
    "failed attempts",
    "attempts that succeeded",
    "signature rejections",
    "size rejections",
    "events ok",
    "attempts ok",
    "p95",
    "last error",
    "reason",
    "next probe",
    "trouble",
    "alerts",
    "changes",
)
_SAME: Final = "="


class Row(NamedTuple):
    """One figure of one endpoint in each view that shows it."""

    endpoint: str
    figure: str
    values: dict[str, str]

    @property
    def agreed(self) -> str:
        """The value that most views show; the earliest view's where as many show another."""
        return Counter(self.values.values()).most_common(1)[0][0]

    @property
    def differing(self) -> dict[str, str]:
        """The views that show something else than most."""
        return {view: value for view, value in self.values.items() if value != self.agreed}


def compare(views: Mapping[str, View]) -> list[Row]:
    """Return a row for each figure that at least one view shows, by endpoint."""
    endpoints = list(dict.fromkeys(name for view in views.values() for name in view))
    rows = []
    for endpoint in sorted(endpoints, key=lambda name: name == ALL):
        shown = {name: view[endpoint] for name, view in views.items() if endpoint in view}
        figures = {figure for one in shown.values() for figure in one}
        if unknown := figures - set(FIGURES):
            raise ValueError(f"no such figures: {unknown}")
        for figure in sorted(figures, key=FIGURES.index):
            values = {name: one[figure] for name, one in shown.items() if figure in one}
            rows.append(Row(endpoint, figure, values))
    return rows


def table(rows: Iterable[Row], views: Iterable[str]) -> str:
    """Return the rows as a text: the value, and in each view's column `=` where it shows the same, the
    view's own value and `!!` where it shows another, nothing where it does not show the figure."""
    views = list(views)
    lines: list[list[str]] = []
    for endpoint, some in groupby(rows, lambda row: row.endpoint):
        lines += [[], [endpoint, "value", *views]]
        lines += [
            [f"  {row.figure}", row.agreed, *(_cell(row, view) for view in views)] for row in some
        ]
    widths = [max(map(len, column)) for column in zip(*(one for one in lines if one), strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(one, widths, strict=False)).rstrip()
        for one in lines
    )


def _cell(row: Row, view: str) -> str:
    if view in row.differing:
        return f"!! {row.values[view]}"
    return _SAME if view in row.values else ""


def count(n: float) -> str:
    """Return a whole number; anything else as it is, so that it differs."""
    return f"{int(n):,}" if n == int(n) else repr(n)


def causes(by_cause: Mapping[str, float]) -> str:
    """Return how many there are of each cause, those of which there is none left out."""
    found = [f"{cause} {count(n)}" for cause, n in sorted(by_cause.items()) if n]
    return ", ".join(found) or "none"


def ratio(good: int, bad: int) -> str:
    """Return the share of the good ones in whole tenths of a percent, rounded down; but only what never
    failed is 100 %, and only what never succeeded is 0 %."""
    if not good + bad:
        return "none"
    tenths = good * 1000 // (good + bad)
    return f"{max(tenths, 1 if good else 0) / 10:g} %"


def share(value: float | None) -> str:
    """Return the same of a share that is a fraction of at most some million."""
    if value is None:
        return "none"
    tenths = int(value * 1000 + 1e-9)
    return f"{max(tenths, 1 if value else 0) / 10:g} %"


def milliseconds(ms: float) -> str:
    """Return two digits, which every view shows."""
    return f"{float(f'{ms:.2g}'):g} ms"

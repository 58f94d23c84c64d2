"""Lines over time, in the colours of the style sheet: they follow the theme by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from nicegui import ui

from fluxhook.admin.dashboard.sampler import HISTORY_S, Point
from fluxhook.admin.dashboard.widgets.dom import tag, text

__all__ = ["LATENCY", "PENDING", "THROUGHPUT", "Line", "LineChart", "legend"]


class Line(NamedTuple):
    """`field` is one of a `Point`'s, `colour` a variable of the style sheet."""

    field: str
    label: str
    colour: str
    filled: bool = False
    dash: str = "solid"


THROUGHPUT = (
    Line("accepted", "Accepted", "--line-quiet", dash="dashed"),
    Line("delivered", "Delivered", "--accent", filled=True),
    Line("failed", "Failed", "--bad"),
)
LATENCY = (
    Line("p50", "p50", "--accent", filled=True),
    Line("p95", "p95", "--line-second"),
    Line("p99", "p99", "--line-third", dash="dashed"),
)
PENDING = (Line("pending", "Pending", "--accent", filled=True),)


_CLOCK: Final = "(v) => new Date(v).toLocaleTimeString([], {hourCycle: 'h23'})"
#: A line that has just begun is not squeezed into a corner.
_MIN_SPAN_MS: Final = 60_000


def legend(lines: Sequence[Line]) -> None:
    """Say what each line is; by its dashes too, not by the colour alone."""
    with tag("div", "legend", aria_hidden="true"):
        for line in lines:
            with tag("span"):
                tag("i", line.dash).style(f"border-color:var({line.colour})")
                text("span", line.label)


class LineChart:
    """Points of the last minutes; `unit` stands at the tooltip's figures."""

    def __init__(self, lines: Sequence[Line], unit: str, label: str) -> None:
        self._lines = lines
        self._last: Point | None = None
        with tag("div", "plot"):
            self._chart = ui.echart(_options(lines, unit), renderer="svg").classes("chart")
            self._chart.props["role"] = "img"
            self._chart.props["aria-label"] = label
            self._nothing = text("p", "Nothing yet", "nothing")

    def show(self, points: Sequence[Point]) -> None:
        if not points or points[-1] == self._last:
            return
        self._last = points[-1]
        options, now = self._chart.options, points[-1].at_ms
        span = min(max(now - points[0].at_ms, _MIN_SPAN_MS), int(HISTORY_S * 1000))
        options["xAxis"]["min"], options["xAxis"]["max"] = now - span, now
        for line, series in zip(self._lines, options["series"], strict=True):
            series["data"] = [[point.at_ms, getattr(point, line.field)] for point in points]
        known = any(
            getattr(point, line.field) is not None for point in points for line in self._lines
        )
        self._nothing.set_visibility(not known)
        self._chart.update()


def _options(lines: Sequence[Line], unit: str) -> dict[str, Any]:
    quiet = {"color": "var(--text-quiet)", "fontSize": 11}
    return {
        "animation": False,
        "textStyle": {"fontFamily": "inherit", "fontSize": 11},
        "grid": {"left": 8, "right": 12, "top": 12, "bottom": 4, "containLabel": True},
        "tooltip": {
            "trigger": "axis",
            "confine": True,
            "transitionDuration": 0,
            "backgroundColor": "var(--raised)",
            "borderColor": "var(--border)",
            "textStyle": {"color": "var(--text)", "fontSize": 12},
            "axisPointer": {"lineStyle": {"color": "var(--line-quiet)", "type": "solid"}},
            ":valueFormatter": f"(v) => v == null ? '-' : v.toLocaleString() + {unit!r}",
        },
        "xAxis": {
            "type": "time",
            "splitNumber": 4,
            "axisLine": {"lineStyle": {"color": "var(--border)"}},
            "axisTick": {"show": False},
            "splitLine": {"show": False},
            "axisLabel": {**quiet, ":formatter": _CLOCK, "hideOverlap": True},
        },
        "yAxis": {
            "type": "value",
            "min": 0,
            "splitNumber": 4,
            "axisLabel": quiet,
            "splitLine": {"lineStyle": {"color": "var(--grid)"}},
        },
        "series": [
            {
                "name": line.label,
                "type": "line",
                "showSymbol": False,
                "connectNulls": False,
                "itemStyle": {"color": f"var({line.colour})"},
                "lineStyle": {"color": f"var({line.colour})", "width": 1.6, "type": line.dash},
                "areaStyle": {"color": f"var({line.colour})", "opacity": 0.1}
                if line.filled
                else None,
                "emphasis": {"disabled": True},
                "data": [],
            }
            for line in lines
        ],
    }

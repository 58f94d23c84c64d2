"""Lines over time, in the colours of the style sheet: they follow the theme by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from nicegui import ui

from fluxhook.admin.dashboard.widgets.dom import tag, text
from fluxhook.admin.dashboard.widgets.frame import card
from fluxhook.admin.history import GAP_S, HISTORY_S, INTERVAL_S, Point

__all__ = ["BACKLOG", "LATENCY", "PAST_DUE", "THROUGHPUT", "Chart", "LineChart", "line_data"]


class Line(NamedTuple):
    """`field` is one of a `Point`'s, `colour` a variable of the style sheet."""

    field: str
    label: str
    colour: str
    filled: bool = False
    dash: str = "solid"


class Chart(NamedTuple):
    """What a chart shows: `unit` stands at the tooltip's figures, `note` below the chart; of what is
    `whole` there is no half."""

    title: str
    label: str
    unit: str
    lines: tuple[Line, ...]
    note: str = ""
    whole: bool = False


THROUGHPUT: Final = Chart(
    "Throughput, events a second",
    "Events accepted, delivered, failed and dead",
    "/s",
    (
        Line("accepted", "Accepted", "--line-quiet", dash="dashed"),
        Line("delivered", "Delivered", "--accent", filled=True),
        Line("failed", "Failed attempts", "--bad"),
        Line("dead", "Dead", "--line-third", dash="dotted"),
    ),
    f"The mean of {INTERVAL_S:.0f} seconds at each point.",
)
LATENCY: Final = Chart(
    "Latency of delivered attempts, ms",
    "Latency percentiles p50, p95 and p99",
    " ms",
    (
        Line("p50", "p50", "--accent", filled=True),
        Line("p95", "p95", "--line-second"),
        Line("p99", "p99", "--line-third", dash="dashed"),
    ),
    "Interpolated within the buckets in which attempts are counted.",
)
BACKLOG: Final = Chart(
    "Backlog, events that wait",
    "Events that wait for their delivery",
    "",
    (Line("pending", "Pending", "--accent", filled=True),),
    whole=True,
)
PAST_DUE: Final = Chart(
    "Past due, seconds",
    "How late the latest due delivery is",
    " s",
    (Line("past_due_s", "Past due", "--bad", filled=True),),
    whole=True,
)

_CLOCK: Final = "(v) => new Date(v).toLocaleTimeString([], {hourCycle: 'h23'})"
#: A line that has just begun is not squeezed into a corner.
_MIN_SPAN_S: Final = 60.0


class LineChart:
    """A card with the points of the last hour."""

    def __init__(self, chart: Chart) -> None:
        self._lines = chart.lines
        self._last: Point | None = None
        with card(chart.title) as side:
            with side:
                if len(chart.lines) > 1:
                    _legend(chart.lines)
            with tag("div", "plot"):
                self._chart = ui.echart(_options(chart), renderer="svg").classes("chart")
                self._chart.props["role"] = "img"
                self._chart.props["aria-label"] = chart.label
                self._nothing = text("p", "Nothing yet", "nothing")
            if chart.note:
                text("p", chart.note, "help")

    def show(self, points: Sequence[Point]) -> None:
        if not points or points[-1] == self._last:
            return
        self._last = points[-1]
        options, now_s = self._chart.options, points[-1].at_s
        span_s = min(max(now_s - points[0].at_s, _MIN_SPAN_S), HISTORY_S)
        options["xAxis"]["min"], options["xAxis"]["max"] = _ms(now_s - span_s), _ms(now_s)
        for line, series in zip(self._lines, options["series"], strict=True):
            series["data"] = line_data(points, line.field)
        known = any(
            getattr(point, line.field) is not None for point in points for line in self._lines
        )
        self._nothing.set_visibility(not known)
        options["xAxis"]["axisLabel"]["show"] = known
        self._chart.update()


def line_data(points: Sequence[Point], field: str) -> list[Any]:
    """Return what is drawn: a line has a hole where nothing is known, and a dot where there is but one
    point between two holes."""
    data: list[Any] = []
    for i, point in enumerate(points):
        if i and point.at_s - points[i - 1].at_s > GAP_S:
            data.append([_ms(points[i - 1].at_s) + 1, None])
        data.append([_ms(point.at_s), getattr(point, field)])
    values = [None, *(value for _, value in data), None]
    return [
        {"value": item, "symbol": "circle"}
        if here is not None and before is after is None
        else item
        for item, before, here, after in zip(data, values, values[1:], values[2:], strict=False)
    ]


def _ms(at_s: float) -> int:
    return int(at_s * 1000)


def _legend(lines: Sequence[Line]) -> None:
    """Say what each line is; by its dashes too, not by the colour alone."""
    with tag("div", "legend", aria_hidden="true"):
        for line in lines:
            with tag("span"):
                tag("i", line.dash).style(f"border-color:var({line.colour})")
                text("span", line.label)


def _options(chart: Chart) -> dict[str, Any]:
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
            ":valueFormatter": "(v) => v == null ? '-' : v.toLocaleString(undefined, "
            f"{{maximumSignificantDigits: 4}}) + {chart.unit!r}",
        },
        "xAxis": {
            "type": "time",
            "splitNumber": 4,
            "axisLine": {"lineStyle": {"color": "var(--border)"}},
            "axisTick": {"show": False},
            "splitLine": {"show": False},
            "axisLabel": {
                **quiet,
                ":formatter": _CLOCK,
                "hideOverlap": True,
                "alignMinLabel": "left",
                "alignMaxLabel": "right",
            },
        },
        "yAxis": {
            "type": "value",
            "min": 0,
            "minInterval": 1 if chart.whole else 0,
            "splitNumber": 4,
            "axisLabel": quiet,
            "splitLine": {"lineStyle": {"color": "var(--grid)"}},
        },
        "series": [_series(line) for line in chart.lines],
    }


def _series(line: Line) -> dict[str, Any]:
    colour = f"var({line.colour})"
    return {
        "name": line.label,
        "type": "line",
        "symbol": "none",
        "symbolSize": 5,
        "connectNulls": False,
        "itemStyle": {"color": colour},
        "lineStyle": {"color": colour, "width": 1.6, "type": line.dash},
        "areaStyle": {"color": colour, "opacity": 0.1} if line.filled else None,
        "emphasis": {"disabled": True},
        "data": [],
    }

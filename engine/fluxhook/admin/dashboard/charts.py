"""Lines over time, in the colours of the style sheet: they follow the theme by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from nicegui import ui

from fluxhook.admin.dashboard.sampler import HISTORY_S, Point

__all__ = ["LATENCY", "PENDING", "THROUGHPUT", "Line", "LineChart"]


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


class LineChart:
    """Points of the last minutes; `unit` stands at the tooltip's figures."""

    def __init__(self, lines: Sequence[Line], unit: str, label: str) -> None:
        self._lines = lines
        self._last: Point | None = None
        self._chart = ui.echart(_options(lines, unit), renderer="svg").classes("chart")
        self._chart.props["role"] = "img"
        self._chart.props["aria-label"] = label

    def show(self, points: Sequence[Point]) -> None:
        if not points or points[-1] == self._last:
            return
        self._last = points[-1]
        options = self._chart.options
        options["xAxis"]["min"] = points[-1].at_ms - int(HISTORY_S * 1000)
        options["xAxis"]["max"] = points[-1].at_ms
        for line, series in zip(self._lines, options["series"], strict=True):
            series["data"] = [[point.at_ms, getattr(point, line.field)] for point in points]
        self._chart.update()


def _options(lines: Sequence[Line], unit: str) -> dict[str, Any]:
    quiet = {"color": "var(--text-quiet)", "fontSize": 11}
    return {
        "animation": False,
        "textStyle": {"fontFamily": "inherit"},
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
            "splitNumber": 5,
            "axisLine": {"lineStyle": {"color": "var(--border)"}},
            "axisTick": {"show": False},
            "splitLine": {"show": False},
            "axisLabel": {**quiet, "formatter": "{HH}:{mm}", "hideOverlap": True},
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

"""A small writer of line charts as SVG. Pure: data in, text out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

__all__ = ["Chart", "Line", "render"]

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 78, 190, 46, 56
#: distinguishable in grey as well, by the shape of their marks (Okabe and Ito, 2008)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKS = ("circle", "square", "diamond", "circle", "square", "diamond")

Point = tuple[float, float]


class Line(NamedTuple):
    label: str
    points: Sequence[Point]


class Chart(NamedTuple):
    """`log_*`: a logarithmic axis, for values above 0. `x_ticks`: places that are named, else some
    are chosen."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False
    x_ticks: Sequence[tuple[float, str]] = ()


def nice_ticks(low: float, high: float, log: bool) -> list[float]:
    """Return round numbers from `low` to `high` or a little beyond."""
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        return [10.0**n for n in range(first, max(last, first + 1) + 1)]
    step = 10.0 ** math.floor(math.log10((high - low) / 4 or 1))
    step *= next(n for n in (1, 2, 5, 10) if (high - low) / (step * n) <= 6)
    return [n * step for n in range(math.floor(low / step), math.ceil(high / step) + 1)]


def scale(low: float, high: float, log: bool, start: float, end: float) -> Callable[[float], float]:
    """Return a function from values to pixels."""
    place = math.log10 if log else float
    first, span = place(low), (place(high) - place(low)) or 1.0
    return lambda value: start + (place(value) - first) / span * (end - start)


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:g}"


def render(chart: Chart) -> str:
    """Return a whole document. Raise ValueError for a chart without a point."""
    xs = [x for line in chart.lines for x, _ in line.points]
    ys = [y for line in chart.lines for _, y in line.points]
    if not xs:
        raise ValueError(f"the chart {chart.title!r} has no points")
    y_ticks = nice_ticks(min(ys) if chart.log_y else 0.0, max(ys), chart.log_y)
    x_ticks = chart.x_ticks or [(x, number(x)) for x in sorted(set(xs))]
    x_at = scale(
        min(*xs, x_ticks[0][0]), max(*xs, x_ticks[-1][0]), chart.log_x, LEFT, WIDTH - RIGHT
    )
    y_at = scale(y_ticks[0], y_ticks[-1], chart.log_y, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(chart.title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 24, chart.title, size=15),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, chart.x, anchor="middle"),
        f'<g transform="rotate(-90 18 {HEIGHT / 2})">'
        + _text(18, HEIGHT / 2, chart.y, anchor="middle")
        + "</g>",
    ]
    for tick in y_ticks:
        y = y_at(tick)
        parts.append(_rule(LEFT, y, WIDTH - RIGHT, y))
        parts.append(_text(LEFT - 8, y + 4, number(tick), anchor="end"))
    for value, name in x_ticks:
        parts.append(_rule(x_at(value), HEIGHT - BOTTOM, x_at(value), HEIGHT - BOTTOM + 5))
        parts.append(_text(x_at(value), HEIGHT - BOTTOM + 20, name, anchor="middle"))
    for order, line in enumerate(chart.lines):
        points = [(x_at(x), y_at(y)) for x, y in line.points]
        parts += _line(points, line.label, order)
    return "\n".join([*parts, "</svg>", ""])


def _line(points: Sequence[Point], label: str, order: int) -> list[str]:
    colour, mark = COLOURS[order % len(COLOURS)], MARKS[order % len(MARKS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    y = TOP + 14 + 20 * order
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(_mark(x, y, mark, colour) for x, y in points),
        _mark(WIDTH - RIGHT + 18, y - 4, mark, colour),
        _text(WIDTH - RIGHT + 30, y, label),
    ]


def _mark(x: float, y: float, mark: str, colour: str) -> str:
    if mark == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
    turn = f' transform="rotate(45 {x:.1f} {y:.1f})"' if mark == "diamond" else ""
    return f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7" fill="{colour}"{turn}/>'


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#d0d0d0"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(text)}</text>"
    )

"""The charts of a run: which rows and figures are drawn, and how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.programs.host import SHARES as EMIT_SHARES
from bench.svg import Chart, Line, render

__all__ = ["charts", "draw"]

Rows = Mapping[str, Mapping[str, Any]]


def _by(rows: Rows, key: str, names: tuple[str, ...], lines: Mapping[str, str]) -> list[Line]:
    """Return a line for each figure, over the rows in the order of `key`."""
    chosen = sorted((rows[name] for name in names if name in rows), key=lambda row: row[key])
    if len(chosen) < 2:
        return []
    found = []
    for figure, label in lines.items():
        points = [
            (row[key], row["summary"][figure]["median"])
            for row in chosen
            if figure in row["summary"]
        ]
        found += [Line(label, points)] if points else []
    return found


def _tail(percent: float) -> float:
    """Place percentiles at equal distances for each further nine: how many of 1 are above."""
    return 1 / (1 - percent / 100)


#: places on the axis of percentiles
TAIL = tuple((_tail(p), f"p{p:g}") for p in (50, 90, 99, 99.9, 99.99))


def charts(rows: Rows) -> dict[str, Chart]:
    """Return charts by the names of their files; what was not measured is left out."""
    found = {
        "throughput.svg": Chart(
            "Deliveries a second, one core for the senders",
            "requests in flight",
            "deliveries/s",
            _by(
                rows,
                "in_flight",
                ("in-flight-1", "in-flight-4", "in-flight-8", "main", "in-flight-128"),
                {"engine.rate": "Fluxhook, whole engine", "bare.rate": "bare pycurl loop"},
            ),
            log_x=True,
        ),
        "cpu-by-endpoints.svg": Chart(
            "CPU per delivery, by endpoints",
            "endpoints",
            "microseconds",
            _by(
                rows,
                "endpoints",
                ("main", "endpoints-10", "endpoints-100", "1x2x1000"),
                {
                    "engine.cpu": "Fluxhook, whole engine",
                    "engine.worker": "its workers",
                    "bare.cpu": "bare pycurl loop",
                },
            ),
            log_x=True,
        ),
        "first-byte.svg": Chart(
            "From emit to the receiver's first byte, idle engine",
            "percentile",
            "microseconds",
            _percentiles(rows, "idle", "Fluxhook"),
            x_ticks=[(p, f"p{p:g}") for p in (1, 25, 50, 75, 99)],
            log_y=True,
        ),
        "emit.svg": Chart(
            "emit, engine saturated, on the worker's core",
            "percentile",
            "microseconds",
            _emit(rows),
            log_x=True,
            log_y=True,
            x_ticks=TAIL,
        ),
        "host.svg": Chart(
            "An ASGI host that emits for each request",
            "percentile of a request's latency",
            "microseconds",
            _host(rows),
            log_x=True,
            log_y=True,
            x_ticks=TAIL[:-1],
        ),
    }
    return {name: chart for name, chart in found.items() if chart.lines}


def _percentiles(rows: Rows, name: str, label: str) -> list[Line]:
    points = rows[name]["series"].get("first_byte_us") if name in rows else None
    return [Line(label, points)] if points else []


def _emit(rows: Rows) -> list[Line]:
    lines = []
    for name, label in (("main", "one publisher"), ("4x2x4", "slowest of four")):
        summary = rows[name]["summary"] if name in rows else {}
        points = [
            (_tail(share * 100), summary[figure]["median"])
            for share in EMIT_SHARES
            if (figure := f"engine.emit.p{share * 100:g}") in summary
        ]
        lines += [Line(label, points)] if points else []
    return lines


def _host(rows: Rows) -> list[Line]:
    summary = rows["host"]["summary"] if "host" in rows else {}
    return [
        Line(
            f"{side} Fluxhook",
            [(_tail(p), summary[f"{side}.p{p:g}"]["median"]) for p in (50, 90, 95, 99, 99.9)],
        )
        for side in ("without", "with")
        if f"{side}.p50" in summary
    ]


def draw(result: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Write the charts of a run, and remove those of an older one; return titles by the names of
    files."""
    folder.mkdir(parents=True, exist_ok=True)
    found = charts({row["name"]: row for row in result["rows"]})
    for old in folder.glob("*.svg"):
        if old.name not in found:
            old.unlink()
    for name, chart in found.items():
        folder.joinpath(name).write_text(render(chart))
    return {name: chart.title for name, chart in found.items()}

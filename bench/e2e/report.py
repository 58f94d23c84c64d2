"""Runs to medians, and medians to a table with the project's targets beside them."""

from __future__ import annotations

from statistics import median
from typing import Any, NamedTuple

from bench.e2e.stage import Figures


class Row(NamedTuple):
    """`target` is a bound: the most if `at_most`, else the least."""

    section: str
    name: str
    label: str
    unit: str
    target: float | None = None
    at_most: bool = True


WRK = "wrk, one fixed request (the floor)"
BARE = "bare pycurl loop, same options, headers and HMAC"
ENGINE = "the engine; CPU for each delivery"
FAILING = "failing: each event once 503, then 204; CPU for each event"
IDLE = "idle engine, one event at a time"

ROWS = (
    Row(WRK, "wrk.rate", "requests", "/s"),
    Row(WRK, "wrk.cpu", "CPU", "us"),
    Row(BARE, "bare.rate", "requests", "/s"),
    Row(BARE, "bare.cpu", "CPU", "us"),
    Row(ENGINE, "deliver.rate", "events delivered", "/s"),
    Row(ENGINE, "deliver.by store", "of them spilled to the store", "%"),
    Row(ENGINE, "deliver.cpu.host", "CPU of the hosts, emitting", "us"),
    Row(ENGINE, "deliver.cpu.worker", "CPU of the workers", "us"),
    Row(ENGINE, "deliver.cpu.keeper", "CPU of supervisor and keeper", "us"),
    Row(ENGINE, "deliver.cpu.sum", "CPU of all of them", "us"),
    Row(ENGINE, "deliver.cpu.receiver", "CPU of nginx", "us"),
    Row(ENGINE, "ratio.worker", "workers / bare loop", "x", 1.2),
    Row(ENGINE, "ratio.engine", "all / bare loop", "x", 1.35),
    Row(ENGINE, "deliver.emit.p50", "emit p50, engine saturated", "us", 1.5),
    Row(ENGINE, "deliver.emit.p99", "emit p99", "us", 6.0),
    Row(ENGINE, "deliver.emit.p99.9", "emit p99.9", "us"),
    Row(FAILING, "fail.rate", "fail -> store", "/s", 25e3, False),
    Row(FAILING, "fail.attempts", "attempts an event", ""),
    Row(FAILING, "fail.cpu.host", "CPU of the hosts", "us"),
    Row(FAILING, "fail.cpu.worker", "CPU of the workers", "us"),
    Row(FAILING, "fail.cpu.keeper", "CPU of the keeper", "us"),
    Row(FAILING, "fail.retry.rate", "store -> delivered", "/s"),
    Row(FAILING, "fail.retry.cpu.worker", "CPU of the workers, delivering", "us"),
    Row(FAILING, "fail.retry.cpu.keeper", "CPU of the keeper, delivering", "us"),
    Row(IDLE, "idle.p50", "emit to first byte p50", "us", 200.0),
    Row(IDLE, "idle.p99", "emit to first byte p99", "us", 1000.0),
)
#: figures that must be 0 in every run
BOOKS = ("lost", "given up", "surplus requests")


def flatten(run: dict[str, Figures]) -> Figures:
    """One repeat's figures under the names of ROWS, and the ratios within it."""
    flat = {f"{part}.{name}": value for part, fs in run.items() for name, value in fs.items()}
    if "deliver" in run:
        engine = run["deliver"]
        total = engine["cpu.host"] + engine["cpu.worker"] + engine["cpu.keeper"]
        flat["deliver.cpu.sum"] = total
        if "bare" in run:
            flat["ratio.worker"] = engine["cpu.worker"] / run["bare"]["cpu"]
            flat["ratio.engine"] = total / run["bare"]["cpu"]
    return flat


def summarize(runs: list[Figures]) -> dict[str, dict[str, Any]]:
    """Median, least and greatest of each row, and whether its target is met."""
    summary: dict[str, dict[str, Any]] = {}
    for row in ROWS:
        values = [run[row.name] for run in runs if row.name in run]
        if not values:
            continue
        middle = median(values)
        entry: dict[str, Any] = {
            "median": middle,
            "min": min(values),
            "max": max(values),
            "unit": row.unit,
            "n": len(values),
        }
        if row.target is not None:
            met = middle <= row.target if row.at_most else middle >= row.target
            entry |= {"target": row.target, "at_most": row.at_most, "met": met}
        summary[row.name] = entry
    return summary


def table(summary: dict[str, dict[str, Any]]) -> str:
    """The figures for people: median, least and greatest, target."""
    lines = [f"{'':34}{'median':>12}{'min':>10}{'max':>10}   target"]
    section = ""
    for row in ROWS:
        if row.name not in summary:
            continue
        if row.section != section:
            section = row.section
            lines.append(section)
        entry = summary[row.name]
        target = ""
        if row.target is not None:
            bound = f"{'<=' if row.at_most else '>='} {_number(row.target, row.unit)} {row.unit}"
            target = f"{bound:<12} {'met' if entry['met'] else 'MISSED'}"
        low, middle, high = (_number(entry[key], row.unit) for key in ("min", "median", "max"))
        value = f"{middle} {row.unit:<2}"
        lines.append(f"  {row.label:<32}{value:>12}{low:>10}{high:>10}   {target}".rstrip())
    return "\n".join(lines)


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f}" if unit == "/s" else f"{value:.2f}"

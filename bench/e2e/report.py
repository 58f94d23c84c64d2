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


ROWS = (
    Row("wrk, one fixed request (the floor)", "wrk.rate", "requests", "/s"),
    Row("wrk, one fixed request (the floor)", "wrk.cpu", "CPU", "us"),
    Row("bare pycurl loop, same options, headers and HMAC", "bare.rate", "requests", "/s"),
    Row("bare pycurl loop, same options, headers and HMAC", "bare.cpu", "CPU", "us"),
    Row("the engine", "deliver.rate", "events delivered", "/s"),
    Row("the engine", "deliver.by store", "of them spilled to the store", "%"),
    Row("the engine", "deliver.cpu.host", "CPU of the hosts, emitting", "us"),
    Row("the engine", "deliver.cpu.worker", "CPU of the workers", "us"),
    Row("the engine", "deliver.cpu.keeper", "CPU of supervisor and keeper", "us"),
    Row("the engine", "deliver.cpu.sum", "CPU of all of them", "us"),
    Row("the engine", "deliver.cpu.receiver", "CPU of nginx", "us"),
    Row("the engine", "ratio.worker", "workers / bare loop", "x", 1.2),
    Row("the engine", "ratio.engine", "all / bare loop", "x", 1.35),
    Row("the engine", "deliver.emit.p50", "emit p50, engine saturated", "us", 1.5),
    Row("the engine", "deliver.emit.p99", "emit p99", "us", 6.0),
    Row("the engine", "deliver.emit.p99.9", "emit p99.9", "us"),
    Row("failing: each event once 503, then 204", "fail.rate", "fail -> store", "/s", 25e3, False),
    Row("failing: each event once 503, then 204", "fail.attempts", "attempts an event", ""),
    Row("failing: each event once 503, then 204", "fail.cpu.host", "CPU of the hosts", "us"),
    Row("failing: each event once 503, then 204", "fail.cpu.worker", "CPU of the workers", "us"),
    Row("failing: each event once 503, then 204", "fail.cpu.keeper", "CPU of the keeper", "us"),
    Row("failing: each event once 503, then 204", "fail.retry.rate", "store -> delivered", "/s"),
    Row(
        "failing: each event once 503, then 204",
        "fail.retry.cpu.worker",
        "CPU of the workers, delivering",
        "us",
    ),
    Row(
        "failing: each event once 503, then 204",
        "fail.retry.cpu.keeper",
        "CPU of the keeper, delivering",
        "us",
    ),
    Row("idle engine, one event at a time", "idle.p50", "emit to first byte p50", "us", 200.0),
    Row("idle engine, one event at a time", "idle.p99", "emit to first byte p99", "us", 1000.0),
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
    """The figures for people: median, the spread between least and greatest, target."""
    lines = [f"{'':34}{'median':>12}{'spread':>9}   target"]
    section = ""
    for row in ROWS:
        if row.name not in summary:
            continue
        if row.section != section:
            section = row.section
            lines.append(section)
        entry = summary[row.name]
        width = entry["max"] - entry["min"]
        spread = f"{width / entry['median']:.0%}" if entry["median"] else "-"
        target = ""
        if row.target is not None:
            bound = f"{'<=' if row.at_most else '>='} {_number(row.target, row.unit)} {row.unit}"
            target = f"{bound:<12} {'met' if entry['met'] else 'MISSED'}"
        value = f"{_number(entry['median'], row.unit)} {row.unit}"
        lines.append(f"  {row.label:<32}{value:>12}{spread:>9}   {target}".rstrip())
    return "\n".join(lines)


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f}" if unit == "/s" else f"{value:.2f}"

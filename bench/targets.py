"""The project's targets, and what a run says to each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["TARGETS", "Target", "Verdict", "judge"]


class Target(NamedTuple):
    """`bound` is the most that a figure of the row may be if `at_most`, else the least."""

    title: str
    bound: float
    unit: str
    row: str
    figure: str
    at_most: bool = True


class Verdict(NamedTuple):
    target: Target
    #: None: not measured in this run
    figure: float | None
    #: the reason, if it is a contender that could not take part
    absent: str = ""

    @property
    def answer(self) -> str:
        if self.figure is None:
            return "not measured in this run" + (f": {self.absent}" if self.absent else "")
        bound = self.target.bound
        met = self.figure <= bound if self.target.at_most else self.figure >= bound
        return "yes" if met else "no"


TARGETS = (
    Target("worker CPU per delivery / bare loop", 1.2, "x", "main", "ratio.worker"),
    Target("whole engine CPU per delivery / bare loop", 1.35, "x", "main", "ratio.engine"),
    Target("CPU of a notifier like FluxMQ's, 5 workers (its best row) / ours",
           1.25, "x", "main", "times.notifier", False),
    Target("CPU of a notifier like FluxMQ's, 200 workers (its usual row) / ours",
           4, "x", "main", "times.notifier-200", False),
    Target("CPU of aiohttp + uvloop / ours", 4, "x", "main", "times.aiohttp", False),
    Target("CPU of pyreqwest / ours", 1.5, "x", "main", "times.pyreqwest", False),
    Target("emit p50, engine saturated", 1.5, "us", "main", "engine.emit.p50"),
    Target("emit p99, engine saturated", 6, "us", "main", "engine.emit.p99"),
    Target("emit p99.99, engine saturated, on the engine's core",
           100, "us", "main", "engine.emit.p99.99"),
    Target("emit p99.99, engine saturated, on a core of its own",
           100, "us", "apart", "engine.emit.p99.99"),
    Target("match among 10,000 filters", 0.5, "us", "match", "10000"),
    Target("match among 10,000 filters / among 10", 2, "x", "match", "ratio"),
    Target("batched delivery, 50 events a POST: CPU per event", 2.5, "us", "batch", "engine.cpu"),
    Target("CPU per delivery, 1,000 endpoints / 1", 1.25, "x", "1x2x1000", "ratio.against"),
    Target("emit to first byte, idle engine, p50", 200, "us", "idle", "p50"),
    Target("emit to first byte, idle engine, p99", 1000, "us", "idle", "p99"),
    Target("failing deliveries into the store", 25e3, "/s", "fail", "engine.rate", False),
    Target("system calls per delivery, HTTP/1.1", 2.3, "", "syscalls", "calls"),
    Target("worker memory, mapped files aside", 45, "MB", "connections", "one"),
    Target("worker memory per connection", 60, "kB", "connections", "connection"),
    Target("worker memory, growth over a million events", 1, "MB", "memory", "worker.growth"),
    Target("request p99 of a host that emits / of one that does not", 1.1, "x", "host", "ratio.p99"),
)  # fmt: skip


def judge(rows: Mapping[str, Mapping[str, Any]]) -> list[Verdict]:
    """Return each target beside the median of its figure. `rows` are outcomes, by name."""
    verdicts = []
    for target in TARGETS:
        row = rows.get(target.row, {"summary": {}, "absent": {}})
        entry = row["summary"].get(target.figure)
        absent = row["absent"].get(target.figure.removeprefix("times."), "")
        verdicts.append(Verdict(target, entry["median"] if entry else None, absent))
    return verdicts

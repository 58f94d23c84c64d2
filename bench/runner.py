"""Runs rows: repeats until a figure is steady or the row's share of the time is used up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from bench.experiments import Scene, make
from bench.measure import MIN_REPEATS, Figures, spread, steady, summarize
from bench.rows import Row

__all__ = ["MAX_REPEATS", "NOMINAL_S", "run", "shares"]

#: the time for which the numbers of events in `rows` are meant
NOMINAL_S = 210.0
#: more repeats do not make a busy machine quiet
MAX_REPEATS = 9

#: what a row came to, ready for JSON
Outcome = dict[str, Any]


def shares(weights: Sequence[float], budget_s: float) -> Iterator[Callable[[float], float]]:
    """Yield for each row how long it may take, as a function of the time that has passed: what one
    row leaves over, or takes too much, is shared by those after it."""
    left = sum(weights)
    for weight in weights:
        yield partial(_share, budget_s, weight / left)
        left -= weight


def _share(budget_s: float, part: float, passed_s: float) -> float:
    return max(0.0, (budget_s - passed_s) * part)


def again(row: Row, runs: Sequence[Figures], minimum: int, passed_s: float, share_s: float) -> bool:
    """Return whether a row is to be repeated once more."""
    if row.once:
        return not runs
    if len(runs) < minimum:
        return True
    values = [figures[row.key] for figures in runs if row.key in figures]
    if not values or steady(values, minimum) or len(runs) >= MAX_REPEATS:
        return False
    return passed_s + passed_s / len(runs) <= share_s


def losses(runs: Sequence[Figures]) -> int:
    """Return the events and requests that are missing or too many, in all repeats, of any sender."""
    return int(
        sum(
            value
            for figures in runs
            for name, value in figures.items()
            if name.endswith((".lost", ".surplus"))
        )
    )


def run(row: Row, scene: Scene, share_s: float, minimum: int = MIN_REPEATS) -> Outcome:
    runs: list[Figures] = []
    begun = time.monotonic()
    with ExitStack() as stack:
        experiment = make(row, scene, stack)
        started = time.monotonic()
        while again(row, runs, minimum, time.monotonic() - started, share_s - (started - begun)):
            runs.append(experiment.repeat())
    return outcome(row, runs, experiment.events, experiment.absent, experiment.series) | {
        "seconds": time.monotonic() - begun
    }


def outcome(
    row: Row, runs: list[Figures], events: int, absent: dict[str, str], series: dict[str, Any]
) -> Outcome:
    load = row.load
    values = [figures[row.key] for figures in runs if row.key in figures]
    return {
        "name": row.name,
        "title": row.title,
        "experiment": row.experiment,
        "topology": load.topology,
        "payload": load.payload,
        "protocol": load.protocol,
        "answer": load.answer,
        "in_flight": max(load.in_flight, load.endpoints),
        "endpoints": load.endpoints,
        "workers": load.workers,
        "durability": load.durability,
        "contenders": list(row.contenders),
        "n": events,
        "key": row.key,
        "spread": spread(values) if values and not row.once else None,
        "steady": None if row.once or not values else steady(values),
        "losses": losses(runs),
        "absent": absent,
        "series": series,
        "summary": {name: each._asdict() for name, each in summarize(runs).items()},
        "runs": runs,
    }

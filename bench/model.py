"""A cost model: what a load needs, from a few measured costs.

    python -m bench.model --costs run.json --rate 50000 --payload 2000 --connections 500 --failing 0.01

Deliveries cost CPU in proportion to their number, and to their bytes; connections cost memory; failing
events cost disk until they are delivered or purged. A core does not run at more than `UTILIZATION`,
so that a burst finds room. `--costs` takes the file that `python -m bench --json` wrote.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Check", "Costs", "Need", "check", "costs", "need"]

#: arbitrary; above it queues grow without bound for a burst (M/M/1: ten waiting at 0.9)
UTILIZATION = 0.7
#: what the model is made of, and the rows that it is compared with
BASE, LARGE, CHECKED = "main", "64KiB", ("4KiB", "4x2x4")


class Costs(NamedTuple):
    """`*_us` are CPU of one delivery over all processes."""

    delivery_us: float
    #: on top, for each byte of a body
    byte_us: float
    worker_mb: float = 0.0
    connection_kb: float = 0.0
    #: of the database, for each failing event that waits or is kept
    stored_bytes: float = 0.0
    #: CPU of a failed attempt and the next one, by way of the store
    failure_us: float = 0.0

    def cpu_us(self, payload: int) -> float:
        return self.delivery_us + self.byte_us * payload


class Need(NamedTuple):
    cores: float
    #: whole ones, with room for bursts
    cores_to_have: int
    memory_mb: float
    store_mb_per_hour: float


class Check(NamedTuple):
    """A row that the model was not made from; deliveries/s of the cores that were used."""

    row: str
    predicted_us: float
    measured_us: float

    @property
    def error(self) -> float:
        return self.predicted_us / self.measured_us - 1


def costs(rows: Mapping[str, Mapping[str, Any]]) -> Costs | None:
    """Return the costs from the outcomes of a run, by name; None if it lacks the two that are
    needed."""

    def figure(row: str, name: str) -> float:
        entry = rows[row]["summary"].get(name) if row in rows else None
        return float(entry["median"]) if entry else 0.0

    small, large = figure(BASE, "engine.cpu"), figure(LARGE, "engine.cpu")
    if not small or not large:
        return None
    sizes = rows[BASE]["payload"], rows[LARGE]["payload"]
    byte_us = max(0.0, (large - small) / (sizes[1] - sizes[0]))
    return Costs(
        small - byte_us * sizes[0],
        byte_us,
        figure("connections", "one"),
        figure("connections", "connection"),
        figure("fail", "engine.stored_bytes"),
        sum(
            figure("fail", f"engine.{part}")
            for part in ("worker", "scheduler", "retry.worker", "retry.scheduler")
        ),
    )


def need(
    costs: Costs, rate: float, payload: int = 600, connections: int = 100, failing: float = 0.0
) -> Need:
    """Return what `rate` deliveries a second need, of which the share `failing` fails once."""
    cores = rate * (costs.cpu_us(payload) + failing * costs.failure_us) / 1e6
    to_have = max(1, math.ceil(cores / UTILIZATION))
    return Need(
        cores,
        to_have,
        to_have * costs.worker_mb + connections * costs.connection_kb / 1024,
        rate * failing * 3600 * costs.stored_bytes / 1e6,
    )


def check(costs: Costs, rows: Mapping[str, Mapping[str, Any]]) -> list[Check]:
    """Return the CPU of a delivery as the model has it, and as it was measured."""
    return [
        Check(
            name,
            costs.cpu_us(rows[name]["payload"]),
            rows[name]["summary"]["engine.cpu"]["median"],
        )
        for name in CHECKED
        if name in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--costs", type=Path, required=True, metavar="JSON")
    parser.add_argument("--rate", type=float, required=True, help="deliveries a second")
    parser.add_argument("--payload", type=int, default=600, help="bytes (600)")
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--failing", type=float, default=0.0, help="share that fails once (0)")
    options = parser.parse_args()
    result = json.loads(options.costs.read_text())
    measured = costs({row["name"]: row for row in result["rows"]})
    if measured is None:
        parser.error(f"--costs: {options.costs} lacks the rows {BASE} and {LARGE}")
    found = need(measured, options.rate, options.payload, options.connections, options.failing)
    print(f"cores busy      {found.cores:.2f}")
    print(f"cores to have   {found.cores_to_have} (busy for {UTILIZATION:.0%} at most)")
    print(f"worker memory   {found.memory_mb:.0f} MB, mapped files aside")
    print(f"store grows by  {found.store_mb_per_hour:.0f} MB an hour until it is purged")


if __name__ == "__main__":
    main()

"""bench.model: what a load needs."""

from __future__ import annotations

from typing import Any

import pytest
from bench.model import Costs, check, costs, need

COSTS = Costs(
    delivery_us=20.0,
    byte_us=0.001,
    worker_mb=30.0,
    connection_kb=50.0,
    stored_bytes=1000.0,
    failure_us=100.0,
)


def row(payload: int, **figures: float) -> dict[str, Any]:
    summary = {name.replace("_", "."): {"median": value} for name, value in figures.items()}
    return {"payload": payload, "summary": summary}


def test_cpu_goes_with_deliveries_and_bytes() -> None:
    """50,000/s of 1,000 bytes at 20 us and 1 ns a byte keep 1.05 cores busy."""
    assert need(COSTS, 50_000, payload=1000).cores == pytest.approx(1.05)


def test_cores_are_whole_and_have_room() -> None:
    """None is meant to be busy for more than 70 %; at least one is needed."""
    assert need(COSTS, 50_000, payload=1000).cores_to_have == 2
    assert need(COSTS, 0).cores_to_have == 1


def test_failures_cost_cpu_and_disk() -> None:
    """1 % of 10,000/s: 100 failures a second, 100 us and 1,000 bytes each."""
    healthy, failing = need(COSTS, 10_000), need(COSTS, 10_000, failing=0.01)
    assert failing.cores - healthy.cores == pytest.approx(0.01)
    assert failing.store_mb_per_hour == pytest.approx(360)


def test_memory_goes_with_workers_and_connections() -> None:
    """One worker for each core to have."""
    assert need(COSTS, 10_000, connections=1024).memory_mb == pytest.approx(80)


def test_costs_are_made_from_two_rows() -> None:
    """A straight line through two sizes of body."""
    rows = {"main": row(600, engine_cpu=21.0), "64KiB": row(65_536, engine_cpu=85.936)}
    found = costs(rows)
    assert found is not None
    assert found.byte_us == pytest.approx(0.001)
    assert found.cpu_us(600) == pytest.approx(21.0)


def test_a_run_without_them_has_no_model() -> None:
    """Nothing is guessed."""
    assert costs({"main": row(600, engine_cpu=21.0)}) is None


def test_the_model_is_compared_with_other_rows() -> None:
    """Only with those that were measured."""
    found = check(COSTS, {"4KiB": row(4096, engine_cpu=20.0)})
    assert [each.row for each in found] == ["4KiB"]
    assert found[0].error == pytest.approx(24.096 / 20 - 1)

"""The store alone, on disk: what failing deliveries cost the keeper, per transaction of 1,000.

    python -m pytest bench/micro/test_store.py --benchmark-only

`synchronous=NORMAL`; 600-byte bodies; one attempt each; due 15 s later with 10 % jitter, over 50
endpoints. Times are CPU (user and system) per transaction; divide 1000 by them for deliveries a second.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluxhook.store import DeliveryStore
from fluxhook.store.delivery_id import PER_US, first_at
from fluxhook.transport.messages import Attempt, EventHead

BATCH = 1000
ENDPOINTS = 50
BODY = os.urandom(600)
NOW = 1_700_000_000_000_000_000
SECOND = 1_000_000_000

pytestmark = pytest.mark.benchmark(group="store", timer=time.process_time, warmup=False)


class Load:
    """A store, and a source of new failing deliveries for it."""

    def __init__(self, path: Path) -> None:
        self.store = DeliveryStore.open(path)
        self.endpoints = list(
            self.store.ensure_endpoints(f"e{i}" for i in range(ENDPOINTS)).values()
        )
        self.ids = itertools.count(first_at(NOW), 16 * PER_US)  # as a worker's: 16 us apart
        self.random = random.Random(1)
        self.now_ns = NOW

    def jittered(self, delay_s: int) -> int:
        return int(delay_s * SECOND * (1 - 0.1 * self.random.random()))

    def prepare(self, n: int = BATCH, endpoints: list[int] | None = None) -> list[tuple[Any, ...]]:
        chosen = endpoints or self.endpoints
        rows = []
        for id in itertools.islice(self.ids, n):
            self.now_ns += 16_000
            event = EventHead(f"evt_{id * 7919 % 16**20:020x}", "route.error")
            attempt = Attempt(
                self.now_ns,
                503,
                "5xx",
                "",
                120,
                300,
                0,
                4000,
                4100,
                None,
                b"Service Unavailable",
                1,
            )
            due_ns = self.now_ns + self.jittered(15)
            rows.append((id, chosen[id // 1024 % len(chosen)], event, self.now_ns, due_ns, attempt))
        return rows

    def fail(self, rows: list[tuple[Any, ...]]) -> None:
        with self.store.transaction() as transaction:
            for id, endpoint, event, accepted_ns, due_ns, attempt in rows:
                delivery = transaction.add(
                    id, endpoint, event, BODY, accepted_ns=accepted_ns, due_ns=due_ns
                )
                transaction.attempt(delivery, attempt)
                transaction.reschedule(delivery, due_ns, "5xx", "503 Service Unavailable")
                transaction.count(endpoint, "failed")
            transaction.position(b"ring", rows[-1][0])

    def fill(self, n: int, endpoints: list[int] | None = None) -> None:
        for _ in range(n // BATCH):
            self.fail(self.prepare(endpoints=endpoints))

    def lease(self, n: int = BATCH) -> list[int]:
        """Return ids of n deliveries, taken from the endpoints in turn."""
        ids: list[int] = []
        for endpoint in itertools.cycle(self.endpoints):
            due = self.store.lease(endpoint, self.now_ns + 20 * SECOND, 40)
            ids += [d.id for d, _ in due]
            fronts = self.store.leases.fronts.values()
            if len(ids) >= n or all(due_ns > self.now_ns + 20 * SECOND for due_ns, _ in fronts):
                return ids
        raise AssertionError


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    load = Load(tmp_path / "store.db")
    yield load
    load.store.close()


def test_add_failing(benchmark: Any, load: Load) -> None:
    benchmark.pedantic(load.fail, setup=lambda: ((load.prepare(),), {}), rounds=80)


def test_lease(benchmark: Any, load: Load) -> None:
    load.fill(80_000)
    benchmark.pedantic(load.lease, rounds=60)


def test_fail_again(benchmark: Any, load: Load) -> None:
    load.fill(80_000)
    attempt = load.prepare(1)[0][-1]

    def fail_again(ids: list[int]) -> None:
        with load.store.transaction() as transaction:
            for id in ids:
                delivery = transaction.find(id)
                assert delivery is not None
                transaction.attempt(delivery, attempt)
                due_ns = load.now_ns + load.jittered(120)
                transaction.reschedule(delivery, due_ns, "5xx", "503 Service Unavailable")

    benchmark.pedantic(fail_again, setup=lambda: ((load.lease(),), {}), rounds=60)


def test_deliver(benchmark: Any, load: Load) -> None:
    load.fill(80_000)
    attempt = load.prepare(1)[0][-1]

    def deliver(ids: list[int]) -> None:
        with load.store.transaction() as transaction:
            for id in ids:
                delivery = transaction.find(id)
                assert delivery is not None
                transaction.attempt(delivery, attempt)
                transaction.delivered(delivery, load.now_ns)
                transaction.count(delivery.endpoint, "delivered")

    benchmark.pedantic(deliver, setup=lambda: ((load.lease(),), {}), rounds=60)


def test_bury(benchmark: Any, load: Load) -> None:
    load.fill(80_000, endpoints=[0])
    benchmark.pedantic(
        load.store.dead_letter_all, (0, load.now_ns, "removed"), {"limit": BATCH}, rounds=60
    )


def test_purge(benchmark: Any, load: Load) -> None:
    """Ten thousand at a time; their endpoints died one after the other."""
    load.fill(80_000)
    for endpoint in load.endpoints:
        while load.store.dead_letter_all(endpoint, load.now_ns, "removed", limit=BATCH):
            pass

    def purge() -> None:
        expired = load.store.expired(load.now_ns + 1, 10 * BATCH)
        assert load.store.purge(d.id for d in expired) == 10 * BATCH

    benchmark.pedantic(purge, rounds=6)


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """Store 500,000 deliveries of endpoint 0, all due at the same instant, and as many of the
    others."""
    load = Load(tmp_path_factory.mktemp("million") / "store.db")
    load.jittered = lambda delay_s: NOW - load.now_ns  # type: ignore[method-assign]
    load.fill(500_000, endpoints=[0])
    del load.jittered
    load.fill(500_000, endpoints=load.endpoints[1:])
    yield load
    load.store.close()


@pytest.mark.parametrize("endpoint", [0, 7])
def test_lease_40_among_a_million(benchmark: Any, million: Load, endpoint: int) -> None:
    """Compare with test_lease, which takes 25 times as many."""

    def lease() -> None:
        found = million.store.lease(endpoint, million.now_ns + 20 * SECOND, 40)
        assert len(found) == 40

    benchmark.pedantic(lease, rounds=100)


def test_open_a_million(benchmark: Any, million: Load) -> None:
    def reopen() -> None:
        DeliveryStore.open(million.store.path).close()

    benchmark.pedantic(reopen, rounds=20)

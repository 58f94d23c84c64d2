"""What a record costs on its way through the ring.

    python -m pytest bench/micro/test_ring.py --benchmark-only

A round handles 1,000 records with 600-byte bodies, about the envelope of a gateway event, so
microseconds of a round read as nanoseconds of one record. One process plays both ends: the figures are
those of the code, without the cache misses of a second core.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from fluxhook._native import ring, shared

RECORDS = 1_000
HEAD = b"evt_0123456789abcdef0123\0route.error\0\0"
BODY = b"x" * 600

pytestmark = pytest.mark.benchmark(group="ring")


def pack(n: int) -> bytes:
    return struct.pack(f"<{n}I", *range(n))


class Ends:
    """A ring of 64 MiB with both its ends and their counters, and a worker's outbox."""

    def __init__(self, folder: Path) -> None:
        for name in ("ring", "outbox"):
            ring.create_ring(str(folder / name), 16_384, 64 << 20, bytes(16))
        self.published = shared.Counters(str(folder / "publisher"), 64, 4, writable=True)
        self.worked = shared.Counters(str(folder / "worker"), 64, 80, writable=True)
        self.producer = ring.Producer(str(folder / "ring"))
        self.consumer = ring.Consumer(str(folder / "ring"))
        self.outbox = ring.Producer(str(folder / "outbox"))
        self.keeper = ring.Consumer(str(folder / "outbox"))

    def empty(self) -> None:
        for consumer in (self.consumer, self.keeper):
            consumer.rewind()
            while taken := consumer.take(RECORDS):
                for delivery in taken:
                    delivery.settle()

    def fill(self) -> None:
        self.empty()
        for _ in range(RECORDS):
            assert self.producer.put(pack(1), HEAD, BODY, self.published) == ring.ACCEPTED

    def taken(self) -> tuple[tuple[list[ring.RingDelivery]], dict[str, Any]]:
        """Return the argument of a benchmark: a round's deliveries, just taken."""
        self.fill()
        return (self.consumer.take(RECORDS),), {}


@pytest.fixture
def ends(tmp_path: Path) -> Ends:
    return Ends(tmp_path)


@pytest.mark.parametrize("targets", [1, 8, 32])
def test_put(benchmark: Any, ends: Ends, targets: int) -> None:
    """One record, counted for each of its targets."""
    put, packed, counters = ends.producer.put, pack(targets), ends.published

    def run() -> None:
        for _ in range(RECORDS):
            put(packed, HEAD, BODY, counters)

    benchmark.pedantic(run, setup=ends.empty, rounds=200)


def test_put_drop_oldest(benchmark: Any, ends: Ends) -> None:
    """The same while the queue is full and each put drops a record."""
    producer = ring.Producer(ends.consumer.path, drop_oldest=True)
    packed, counters = pack(1), ends.published

    def run() -> None:
        for _ in range(RECORDS):
            producer.put(packed, HEAD, BODY, counters)

    for _ in range(20):
        run()
    assert counters.get(0, 1) > 0
    benchmark.pedantic(run, rounds=200)


@pytest.mark.parametrize("batch", [1, 64])
def test_take(benchmark: Any, ends: Ends, batch: int) -> None:
    """Deliveries with copies of head and body, the checksum verified."""
    take = ends.consumer.take

    def run() -> None:
        while take(batch):
            pass

    benchmark.pedantic(run, setup=ends.fill, rounds=200)


@pytest.mark.parametrize("counted", [False, True])
def test_settle(benchmark: Any, ends: Ends, counted: bool) -> None:
    """One delivery, with and without its counter."""
    counters = ends.worked if counted else None

    def run(deliveries: list[ring.RingDelivery]) -> None:
        for delivery in deliveries:
            delivery.settle(counters, 0)

    benchmark.pedantic(run, setup=ends.taken, rounds=200)


def test_hand_over(benchmark: Any, ends: Ends) -> None:
    """A record for the outbox, and its delivery settled with it."""
    outbox, counters = ends.outbox, ends.worked

    def run(deliveries: list[ring.RingDelivery]) -> None:
        for delivery in deliveries:
            delivery.hand_over(outbox, 7, HEAD, BODY, counters)

    benchmark.pedantic(run, setup=ends.taken, rounds=200)


def test_idle_look(benchmark: Any, ends: Ends) -> None:
    """A worker looks into an empty ring before it sleeps: `take`, then `arm`."""
    take, arm = ends.consumer.take, ends.consumer.arm

    def run() -> None:
        for _ in range(RECORDS):
            take(64)
            arm()

    benchmark(run)


def test_least_backlog(benchmark: Any, ends: Ends) -> None:
    """The choice among four rings that a publisher makes for each record."""
    producers = [ends.producer, ends.outbox] * 2
    ends.fill()

    def run() -> None:
        for _ in range(RECORDS):
            ring.least_backlog(producers)

    benchmark(run)


def test_observe(benchmark: Any, ends: Ends) -> None:
    """A latency into its bucket."""
    observe = ends.worked.observe

    def run() -> None:
        for value_us in range(RECORDS):
            observe(7, 16, value_us)

    benchmark(run)

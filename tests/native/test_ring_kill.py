"""A publisher and a worker that are killed over and over, and the books at the end.

Record n carries its own number, and what its targets and its body must be follows from it. What each
process knows for certain stands in a ledger of its own: a shared page that needs no recovery, since a
process notes there only what a call has returned.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fluxhook._native import ring
from native.rings import PRODUCTION, SETTLED, RingFiles, fork, kill, pack
from native.stepped import Stepped

ENDPOINTS = 8
RECORDS = 1 << 21  # more than are put in the time given
IN_HAND = 48
TAKE = 16
#: the life of a process that dies at a step of its own counting
STEPS = 2_000
#: how long it goes on, and longer on a machine where that is not enough for so many deaths of each
SECONDS, DEATHS = 2.0, 10

SCRAP = random.Random(1).randbytes(4_096)


def targets_of(n: int) -> tuple[int, ...]:
    mask = n * 2_654_435_761 >> 7 & 0xFF & (0b0101_0101 if n % 3 else 0xFF) or 1
    return tuple(e for e in range(ENDPOINTS) if mask >> e & 1)


PACKED = {targets: pack(*targets) for targets in map(targets_of, range(50_000))}


def body_of(n: int) -> bytes:
    return SCRAP[n % 1_000 :][: n * 40_503 % 700]


class Ledger:
    """One byte for each record, and for each target of each: written by one process at a time."""

    def __init__(self) -> None:
        self.begun = mmap.mmap(-1, 8)
        self.accepted = mmap.mmap(-1, RECORDS)
        self.seen = mmap.mmap(-1, RECORDS * ENDPOINTS)
        self.settled = mmap.mmap(-1, RECORDS * ENDPOINTS)
        self.handed_over = mmap.mmap(-1, RECORDS * ENDPOINTS)


def publish(rig: RingFiles, ledger: Ledger) -> None:
    """Put record after record; one that is refused is tried again until it is accepted."""
    producer, counters = rig.publisher()
    n = struct.unpack("<Q", ledger.begun)[0] + 1
    while n < RECORDS:
        ledger.begun[:] = struct.pack("<Q", n)
        targets = PACKED[targets_of(n)]
        result = producer.put(targets, struct.pack("<Q", n), body_of(n), counters)
        if result == ring.ACCEPTED:
            ledger.accepted[n] = 1
            n += 1
        else:
            assert result == ring.FULL
            os.sched_yield()


def work(rig: RingFiles, ledger: Ledger, seed: int) -> None:
    """Take what comes and settle it in any order, or hand it over."""
    rng = random.Random(seed)
    consumer, outbox, counters = rig.worker()
    in_hand: list[tuple[Any, int]] = []
    last = 0
    while True:
        if len(in_hand) < IN_HAND:
            for delivery in consumer.take(TAKE):
                n = struct.unpack("<Q", delivery.event)[0]
                assert n >= last, "out of order"
                assert delivery.endpoint in targets_of(n)
                assert delivery.body == body_of(n), "torn"
                last, place = n, n * ENDPOINTS + delivery.endpoint
                assert not ledger.settled[place], "settled, and taken again"
                ledger.seen[place] += 1
                in_hand.append((delivery, place))
            assert consumer.corrupt == 0
        if not in_hand:
            os.sched_yield()
        for _ in range(rng.randint(1, IN_HAND)):
            if not in_hand:
                break
            delivery, place = in_hand.pop(rng.randrange(len(in_hand)))
            if rng.random() < 0.8:
                assert delivery.settle(counters, SETTLED)
            else:
                head = struct.pack("<Q", place)
                if delivery.hand_over(outbox, delivery.endpoint, head, b"", counters):
                    in_hand.append((delivery, place))
                    os.sched_yield()
                    break
            ledger.settled[place] = 1


class Scheduler:
    """Empties the outbox; it is the one who is never killed."""

    def __init__(self, rig: RingFiles, ledger: Ledger) -> None:
        self._consumer = rig.scheduler()
        self._ledger = ledger
        self.by_endpoint: Counter[int] = Counter()

    def collect(self) -> None:
        while taken := self._consumer.take(256):
            for delivery in taken:
                place = struct.unpack("<Q", delivery.event)[0]
                assert not self._ledger.handed_over[place], "handed over twice"
                self._ledger.handed_over[place] = 1
                self.by_endpoint[delivery.endpoint] += 1
                delivery.settle()
        assert self._consumer.corrupt == 0


@pytest.mark.parametrize("death", ["at any time", "at a step"])
@pytest.mark.parametrize("drop_oldest", [False, True])
def test_the_books_balance(
    tmp_path: Path, request: pytest.FixtureRequest, drop_oldest: bool, death: str
) -> None:
    """However often both are killed: nothing accepted is lost unless the policy dropped it, nothing is
    torn, only what was in hand is repeated, and each counter is exact."""
    stepped: Stepped | None = None
    native = PRODUCTION
    if death == "at a step":
        stepped = request.getfixturevalue("stepped")
        native = stepped.native
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # shown if the test fails
    rng = random.Random(seed)
    rig = RingFiles(
        tmp_path,
        queue_size=100,
        capacity=16_384,
        endpoints=ENDPOINTS,
        drop_oldest=drop_oldest,
        native=native,
    )
    ledger = Ledger()
    scheduler = Scheduler(rig, ledger)
    deaths = {"publisher": 0, "worker": 0}

    def start(role: str) -> int:
        countdown, seed = rng.randint(1, STEPS), rng.randrange(1 << 32)

        def life() -> None:
            if stepped is not None:
                stepped.arm("", countdown, signal.SIGKILL)
            if role == "publisher":
                publish(rig, ledger)
            else:
                work(rig, ledger, seed)

        return fork(life)

    running = {role: start(role) for role in deaths}
    now = next_kill_at = time.monotonic()
    end_at, give_up_at = now + SECONDS, now + 60
    try:
        while now < end_at or (
            now < give_up_at and (min(deaths.values()) < DEATHS or not scheduler.by_endpoint)
        ):
            scheduler.collect()
            if stepped is None and now >= next_kill_at:
                for role in rng.choice([["publisher"], ["worker"], ["publisher", "worker"]]):
                    os.kill(running[role], signal.SIGKILL)
                next_kill_at = now + rng.uniform(0.001, 0.008)
            for role, pid in list(running.items()):
                dead, status = os.waitpid(pid, os.WNOHANG)
                if dead:
                    code = os.waitstatus_to_exitcode(status)
                    assert code == -signal.SIGKILL, f"the {role} found something wrong"
                    deaths[role] += 1
                    running[role] = start(role)
            os.sched_yield()
            now = time.monotonic()
    finally:
        kill(*running.values())
        deaths = {role: n + 1 for role, n in deaths.items()}

    _, published = rig.publisher()
    consumer, _, worked = rig.worker()
    scheduler.collect()
    assert rig.balance(scheduler.by_endpoint.elements()) == [0] * ENDPOINTS
    left = set()
    for delivery in consumer.take(1_000):
        n = struct.unpack("<Q", delivery.event)[0]
        assert delivery.body == body_of(n)
        place = n * ENDPOINTS + delivery.endpoint
        assert not ledger.settled[place]
        assert not ledger.handed_over[place]
        left.add(place)
        assert delivery.settle(worked, SETTLED)
    assert consumer.empty
    assert rig.balance(scheduler.by_endpoint.elements()) == [0] * ENDPOINTS

    noted: Counter[int] = Counter()
    unseen: Counter[int] = Counter()
    repeated = 0
    for n in range(1, struct.unpack("<Q", ledger.begun)[0] + 1):
        for endpoint in targets_of(n):
            place = n * ENDPOINTS + endpoint
            seen = ledger.seen[place]
            repeated += max(0, seen - 1)
            noted[endpoint] += ledger.accepted[n]
            unseen[endpoint] += ledger.accepted[n] and not seen and place not in left
    for endpoint in range(ENDPOINTS):
        accepted, dropped = published.row(endpoint)
        # a publisher that was killed between a put and its note of it
        assert 0 <= accepted - noted[endpoint] <= deaths["publisher"]
        assert unseen[endpoint] <= dropped
        assert drop_oldest or dropped == 0
    assert repeated <= deaths["worker"] * (IN_HAND + TAKE * ENDPOINTS)
    print(
        f"{deaths=} accepted={noted.total()} repeated={repeated} unseen={unseen.total()} "
        f"handed over={scheduler.by_endpoint.total()}"
    )
    assert min(deaths.values()) >= DEATHS
    assert noted.total() > 100
    assert scheduler.by_endpoint.total() > 0
    assert not drop_oldest or unseen.total() > 0

"""The ring against a plain list, driven in any order by Hypothesis."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from fluxhook._native import ring
from oracles.ring import RingModel

BOOT_ID = bytes(16)
ENDPOINTS = 40
ACCEPTED, DROPPED = range(2)  # a publisher's counters
SETTLED = 0  # a worker's
ANSWERS = {
    "accepted": ring.ACCEPTED,
    "full": ring.FULL,
    "too large": ring.TOO_LARGE,
}

targets = st.lists(st.integers(0, ENDPOINTS - 1), min_size=1, max_size=32, unique=True)
# Empty and small bodies, a few that fill the smallest ring, some around half of it, and one that fits
# into none.
sizes = st.sampled_from([0, 1, 40, 300, 600, 900]) | st.integers(1_800, 2_100) | st.just(9_000)
records = st.tuples(targets, st.integers(0, 20), sizes)


class RingMachine(RuleBasedStateMachine):
    """One process plays producer, consumer and keeper; who is replaced dies at rest."""

    deliveries: Bundle[tuple[int, ring.Delivery]] = Bundle("deliveries")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = str(Path(self.folder.name) / "ring")
        self.puts = 0
        self.life = 0  # deliveries of an earlier consumer are void
        self.handed_over: list[tuple[int, bytes]] = []
        self.settled = [0] * ENDPOINTS

    def teardown(self) -> None:
        """Whatever happened: a new consumer finds all that is still owed, and can settle it."""
        self.replace_consumer()
        for record in self.model.take(self.model.tail + 1):
            taken = self.consumer.take(1)
            assert {d.endpoint for d in taken} == record.unsettled
            assert all(d.settle() for d in taken)
        assert self.consumer.empty
        assert self.consumer.corrupt == 0
        self.folder.cleanup()

    @initialize(
        queue_size=st.integers(1, 8),
        capacity=st.integers(4096, 8200),
        drop_oldest=st.booleans(),
    )
    def create(self, queue_size: int, capacity: int, drop_oldest: bool) -> None:
        self.model = RingModel(queue_size, capacity, drop_oldest)
        ring.create_ring(self.path, queue_size, capacity, BOOT_ID)
        ring.create_ring(self.path + ".outbox", 4, 4096, BOOT_ID)
        self.published = ring.Counters(self.path + ".published", ENDPOINTS, 2, writable=True)
        self.worked = ring.Counters(self.path + ".worked", ENDPOINTS, 2, writable=True)
        self.outbox = ring.Producer(self.path + ".outbox")
        self.keeper = ring.Consumer(self.path + ".outbox")
        self.producer = ring.Producer(self.path, drop_oldest=drop_oldest)
        self.consumer = ring.Consumer(self.path)

    # ---- what the two ends do --------------------------------------------------------------

    @rule(records=st.lists(records, min_size=1, max_size=8))
    def put(self, records: list[tuple[list[int], int, int]]) -> None:
        """Full, too large or accepted as the model says; and which record `oldest` drops for it."""
        for to, head_size, body_size in records:
            self.puts += 1
            head, body = (bytes([self.puts % 256]) * n for n in (head_size, body_size))
            expected = ANSWERS[self.model.put(tuple(to), head, body)]
            packed = struct.pack(f"<{len(to)}I", *to)
            assert self.producer.put(packed, head, body, self.published) == expected
            event(f"put: {expected}")

    @rule(target=deliveries, limit=st.integers(1, 8))
    def take(self, limit: int):  # type: ignore[no-untyped-def]
        """Records come out in order and whole, each unsettled target once."""
        expected = [
            (record.seq, target, record.head, record.body)
            for record in self.model.take(limit)
            for target in record.targets
            if target in record.unsettled
        ]
        taken = self.consumer.take(limit)
        assert [(d.seq, d.endpoint, d.event, d.body) for d in taken] == expected
        return multiple(*((self.life, delivery) for delivery in taken))

    @rule(item=consumes(deliveries))
    def settle(self, item: tuple[int, ring.Delivery]) -> None:
        life, delivery = item
        if life == self.life:
            assert delivery.settle(self.worked, SETTLED)
            self.model.settle(delivery.seq, delivery.endpoint)
            self.settled[delivery.endpoint] += 1
            assert not delivery.in_ring

    @rule(item=consumes(deliveries), target=deliveries)
    def hand_over(self, item: tuple[int, ring.Delivery]):  # type: ignore[no-untyped-def]
        """Where the outbox is full nothing changes and the delivery stays in hand."""
        life, delivery = item
        if life != self.life:
            return multiple()
        head = b"%d" % delivery.seq
        result = delivery.hand_over(self.outbox, delivery.endpoint, head, b"x" * 500, self.worked)
        if result != ring.ACCEPTED:
            assert result == ring.FULL
            assert delivery.in_ring
            return multiple(item)
        self.model.settle(delivery.seq, delivery.endpoint)
        self.handed_over.append((delivery.endpoint, head))
        return multiple()

    @rule()
    def empty_the_outbox(self) -> None:
        """Each delivery that was handed over is in the outbox, once and in order."""
        while taken := self.keeper.take(3):
            for delivery in taken:
                assert (delivery.endpoint, delivery.event) == self.handed_over[delivery.seq]
                delivery.settle()
        assert self.keeper.next == len(self.handed_over)

    # ---- who is replaced -------------------------------------------------------------------

    @rule()
    def replace_consumer(self) -> None:
        """A rewound consumer sees exactly the unsettled targets again (`take` compares them)."""
        self.life += 1
        self.consumer = ring.Consumer(self.path)
        assert not self.worked.recover([self.consumer], self.outbox)
        self.consumer.rewind()
        self.model.rewind()

    @rule()
    def replace_producer(self) -> None:
        self.producer = ring.Producer(self.path, drop_oldest=self.model.drop_oldest)
        assert not self.published.recover([self.producer])
        self.model.replace_producer()

    # ---- what always holds -----------------------------------------------------------------

    @invariant()
    def positions_equal_the_model(self) -> None:
        model = self.model
        for end in (self.producer, self.consumer):
            assert (end.head, end.tail, end.empty) == (
                model.head,
                model.tail,
                model.head == model.tail,
            )
        assert self.producer.waiting == model.waiting
        assert self.consumer.next == model.cursor
        held = [r for r in model.records[model.head :]]
        used = held[-1].place.stop - held[0].place.start if held else 0
        load = max(len(held) / model.slots, used / model.capacity)
        assert self.consumer.load == load <= 1

    @invariant()
    def a_record_is_in_one_place(self) -> None:
        """An accepted target is in exactly one place: unsettled, settled, handed over or dropped."""
        unsettled = ring.unsettled(self.path)
        handed_over = [endpoint for endpoint, _ in self.handed_over]
        for endpoint in range(ENDPOINTS):
            accepted, dropped = self.published.row(endpoint)
            records = [r for r in self.model.records if endpoint in r.targets]
            still = [r for r in records if endpoint in r.unsettled]
            assert accepted == len(records)
            assert dropped == sum(r.where == "dropped" for r in still)
            assert unsettled.get(endpoint, 0) == sum(not r.finished for r in still)
            assert self.worked.get(endpoint, SETTLED) == self.settled[endpoint]
            assert accepted == (
                self.settled[endpoint]
                + handed_over.count(endpoint)
                + dropped
                + unsettled.get(endpoint, 0)
            )

    @invariant()
    def a_held_record_is_not_overwritten(self) -> None:
        """The places of records that are not finished never overlap, on whichever lap they are."""
        model = self.model
        places = sorted(
            (r.place.start % model.capacity, r.place.stop - r.place.start)
            for r in model.records
            if not r.finished
        )
        for (start, size), (following, _) in zip(places, places[1:], strict=False):
            assert start + size <= following
        if places:
            assert sum(places[-1]) <= model.capacity

    @precondition(lambda self: not self.model.drop_oldest)
    @invariant()
    def nothing_is_dropped_unasked(self) -> None:
        assert all(record.where != "dropped" for record in self.model.records)


RingMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)
TestRing = RingMachine.TestCase

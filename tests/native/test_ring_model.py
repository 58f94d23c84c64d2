"""The ring against a plain list, driven in any order by Hypothesis."""

from __future__ import annotations

import shutil
import tempfile
from itertools import pairwise

from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fluxhook._native import ring, shared
from native.rings import BOOT_ID, RAM, pack
from oracles.ring import RingModel

ENDPOINTS = 40
SETTLED = 0
ANSWERS = {"accepted": ring.ACCEPTED, "full": ring.FULL, "too large": ring.TOO_LARGE}

targets = st.lists(st.integers(0, ENDPOINTS - 1), min_size=1, max_size=32, unique=True)
# Empty and small bodies, a few that fill the smallest ring, some around half of it, and one that fits
# into none.
sizes = st.sampled_from([0, 1, 40, 300, 600, 900]) | st.integers(1_800, 2_100) | st.just(9_000)
records = st.tuples(targets, st.integers(0, 20), sizes)
any_index = st.integers(0, 1_000)


class RingMachine(RuleBasedStateMachine):
    """One process plays publisher, worker and scheduler; who is replaced left at rest."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(dir=RAM)
        self.path = f"{self.folder}/ring"
        self.puts = 0
        self.in_hand: list[ring.RingDelivery] = []
        self.settled = [0] * ENDPOINTS
        self.handed_over: list[tuple[int, bytes]] = []

    @initialize(
        queue_size=st.integers(1, 8), capacity=st.integers(4096, 8200), drop_oldest=st.booleans()
    )
    def create(self, queue_size: int, capacity: int, drop_oldest: bool) -> None:
        self.model = RingModel(queue_size, capacity, drop_oldest)
        ring.create_ring(self.path, queue_size, capacity, BOOT_ID)
        ring.create_ring(f"{self.folder}/outbox", 4, 4096, BOOT_ID)
        self.published = shared.Counters(f"{self.folder}/publisher", ENDPOINTS, 2, writable=True)
        self.worked = shared.Counters(f"{self.folder}/worker", ENDPOINTS, 1, writable=True)
        self.outbox = ring.Producer(f"{self.folder}/outbox")
        self.keeper = ring.Consumer(f"{self.folder}/outbox")
        self.producer = ring.Producer(self.path, drop_oldest=drop_oldest)
        self.consumer = ring.Consumer(self.path)

    def teardown(self) -> None:
        """Whatever happened: a new consumer finds all that is still owed, and can settle it."""
        try:
            self.replace_consumer()
            while expected := self.model.take(1):
                taken = self.consumer.take(1)
                assert {d.endpoint for d in taken} == expected[0].unsettled
                assert all(d.settle() for d in taken)
            assert self.consumer.empty
            assert self.consumer.corrupt == 0
        finally:
            shutil.rmtree(self.folder)

    # ---- what the two ends do --------------------------------------------------------------

    @rule(records=st.lists(records, min_size=1, max_size=8))
    def put(self, records: list[tuple[list[int], int, int]]) -> None:
        """A full ring refuses and loses nothing; `oldest` drops what the model says, and no more."""
        for to, head_size, body_size in records:
            self.puts += 1
            head, body = (bytes([self.puts % 256]) * n for n in (head_size, body_size))
            expected = self.model.put(tuple(to), head, body)
            result = self.producer.put(pack(*to), head, body, self.published)
            assert result == ANSWERS[expected]
            event(f"put: {expected}")

    @rule(limit=st.integers(1, 8))
    def take(self, limit: int) -> None:
        """Records come out in order and whole, each unsettled target once."""
        expected = [
            (record.seq, target, record.head, record.body)
            for record in self.model.take(limit)
            for target in record.targets
            if target in record.unsettled
        ]
        taken = self.consumer.take(limit)
        assert [(d.seq, d.endpoint, d.event, d.body) for d in taken] == expected
        self.in_hand += taken

    @rule(indices=st.lists(any_index, min_size=1, max_size=20))
    def settle(self, indices: list[int]) -> None:
        """Any order will do."""
        for index in indices[: len(self.in_hand)]:
            delivery = self.in_hand.pop(index % len(self.in_hand))
            assert delivery.settle(self.worked, SETTLED)
            assert not delivery.in_ring
            self.model.settle(delivery.seq, delivery.endpoint)
            self.settled[delivery.endpoint] += 1

    @rule(index=any_index)
    def hand_over(self, index: int) -> None:
        """If the outbox is full nothing changes and the delivery stays in hand."""
        if not self.in_hand:
            return
        delivery = self.in_hand[index % len(self.in_hand)]
        head = b"%d" % delivery.seq
        result = delivery.hand_over(self.outbox, delivery.endpoint, head, b"x" * 500, self.worked)
        event(f"hand over: {result}")
        if result == ring.ACCEPTED:
            self.in_hand.remove(delivery)
            self.model.settle(delivery.seq, delivery.endpoint)
            self.handed_over.append((delivery.endpoint, head))
        assert result == ring.FULL or not delivery.in_ring

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
        """A rewound consumer sees exactly the unsettled targets again: `take` compares them."""
        self.in_hand = []
        self.consumer = ring.Consumer(self.path)
        assert not ring.recover(self.worked, [self.consumer], self.outbox)
        self.consumer.rewind()
        self.model.rewind()

    @rule()
    def replace_producer(self) -> None:
        self.producer = ring.Producer(self.path, drop_oldest=self.model.drop_oldest)
        assert not ring.recover(self.published, [self.producer])
        self.model.replace_producer()

    # ---- what always holds -----------------------------------------------------------------

    @invariant()
    def positions_equal_the_model(self) -> None:
        model = self.model
        for end in (self.producer, self.consumer):
            assert (end.head, end.tail) == (model.head, model.tail)
            assert end.empty == (model.head == model.tail)
        assert self.producer.waiting == model.waiting
        assert self.consumer.next == model.cursor
        held = model.records[model.head :]
        used = held[-1].place.stop - held[0].place.start if held else 0
        assert self.consumer.load == max(len(held) / model.slots, used / model.capacity)

    @invariant()
    def an_accepted_target_is_in_one_place(self) -> None:
        """accepted = settled + handed over + dropped + unsettled, for each endpoint."""
        unsettled = ring.unsettled(self.path)
        handed_over = [endpoint for endpoint, _ in self.handed_over]
        for endpoint in range(ENDPOINTS):
            records = [r for r in self.model.records if endpoint in r.targets]
            owed = [r for r in records if endpoint in r.unsettled]
            accepted, dropped = self.published.row(endpoint)
            assert accepted == len(records)
            assert dropped == sum(r.where == "dropped" for r in owed)
            assert unsettled.get(endpoint, 0) == sum(r.where != "dropped" for r in owed)
            assert self.worked.get(endpoint, SETTLED) == self.settled[endpoint]
            assert accepted == (
                self.settled[endpoint]
                + handed_over.count(endpoint)
                + dropped
                + unsettled.get(endpoint, 0)
            )

    @invariant()
    def what_is_held_is_not_overwritten(self) -> None:
        """The bytes of unfinished records never overlap, and each lies in one lap."""
        capacity = self.model.capacity
        held = [r.place for r in self.model.records if not r.finished]
        places = sorted((p.start % capacity, p.start % capacity + len(p)) for p in held)
        for (_, stop), (start, _) in pairwise(places):
            assert stop <= start
        assert not places or places[-1][1] <= capacity


RingMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestRing = RingMachine.TestCase

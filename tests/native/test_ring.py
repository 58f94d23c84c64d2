"""What a ring promises to one caller at a time, and what its border refuses."""

from __future__ import annotations

import os
import select
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from fluxhook._native import ring, shared
from native.rings import (
    ACCEPTED,
    BOOT_ID,
    DROPPED,
    SETTLED,
    RingFiles,
    compile_c,
    fork,
    kill,
    outcome,
    pack,
    run_apart,
)

ONE = pack(1)


@pytest.fixture
def rig(tmp_path: Path) -> RingFiles:
    return RingFiles(tmp_path)


@pytest.fixture
def doorbell() -> Any:
    """A pipe: what was rung can be counted at its other end."""
    reading, writing = os.pipe2(os.O_NONBLOCK)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def rung(fd: int) -> int:
    try:
        return len(os.read(fd, 4096))
    except BlockingIOError:
        return 0


class TestRecord:
    def test_comes_out_as_it_went_in(self, rig: RingFiles) -> None:
        """Each target gets a delivery with the head, the body and the time of the put."""
        producer, counters = rig.publisher()
        before_ns = time.time_ns()
        assert producer.put(pack(5, 3, 0xFFFF_FFFF), b"head", b"body", counters) == ring.ACCEPTED
        after_ns = time.time_ns()
        taken = rig.worker()[0].take(10)
        assert [(d.seq, d.endpoint, d.event, d.body) for d in taken] == [
            (0, 5, b"head", b"body"),
            (0, 3, b"head", b"body"),
            (0, 0xFFFF_FFFF, b"head", b"body"),
        ]
        assert all(before_ns <= d.accepted_ns <= after_ns for d in taken)
        assert all((d.id, d.attempts, d.taken_ns) == (0, 0, 0) and d.in_ring for d in taken)

    @pytest.mark.parametrize("size", [8_192 - 36, 8_192 - 35, 1 << 20])
    def test_may_take_half_the_ring(self, rig: RingFiles, size: int) -> None:
        """Half of the capacity, 32 bytes of header and 4 for a target included, always fits into an
        empty ring wherever the last record ended; one byte more never does."""
        producer, _ = rig.publisher()
        consumer, *_ = rig.worker()
        for odd in range(1, 12):
            producer.put(ONE, b"", b"x" * 700 * odd)
            (delivery,) = consumer.take(1)
            delivery.settle()
            expected = ring.ACCEPTED if size + 36 <= 8_192 else ring.TOO_LARGE
            assert producer.put(ONE, b"", b"x" * size) == expected
            for delivery in consumer.take(1):
                assert len(delivery.body) == size
                delivery.settle()

    def test_needs_targets(self, rig: RingFiles) -> None:
        """1 to 32 targets of 4 bytes: with none nobody would ever settle it."""
        producer, _ = rig.publisher()
        for targets in (b"", b"\0" * 3, b"\0" * 5, b"\0" * 4 * 33):
            with pytest.raises(ValueError, match="1 to 32 targets of 4 bytes"):
                producer.put(targets, b"", b"")
        assert producer.put(pack(*range(ring.MAX_TARGETS)), b"", b"") == ring.ACCEPTED

    def test_of_endpoints_without_a_row_is_not_counted(self, rig: RingFiles) -> None:
        """A target beyond the counters' rows is delivered all the same."""
        producer, counters = rig.publisher()
        assert producer.put(pack(1, 8, 2**32 - 1), b"", b"", counters) == ring.ACCEPTED
        consumer, _, worked = rig.worker()
        assert all(d.settle(worked, SETTLED) for d in consumer.take(1))
        assert counters.get(1, ACCEPTED) == worked.get(1, SETTLED) == 1
        assert producer.empty


class TestFullRing:
    def test_refuses_and_keeps_all(self, rig: RingFiles) -> None:
        """Neither a queue nor bytes that are full cost anything that was accepted."""
        for size in (0, 1_000):
            producer, _ = rig.publisher()
            consumer, *_ = rig.worker()
            first = producer.tail
            while producer.put(ONE, b"%d" % producer.tail, b"x" * size) == ring.ACCEPTED:
                pass
            assert producer.waiting == (64 if size == 0 else 15)
            taken = consumer.take(100)
            assert [d.event for d in taken] == [b"%d" % n for n in range(first, producer.tail)]
            assert all(d.settle() for d in taken)

    def test_has_room_again_for_what_was_settled(self, rig: RingFiles) -> None:
        """Room comes back from the oldest record on: the first one that is held keeps it."""
        producer, _ = rig.publisher()
        consumer, *_ = rig.worker()
        while producer.put(ONE, b"", b"x" * 1_000) == ring.ACCEPTED:
            pass
        first, *others = consumer.take(100)
        for delivery in others:
            delivery.settle()
        assert producer.put(ONE, b"", b"x" * 1_000) == ring.FULL
        first.settle()
        assert producer.empty
        assert producer.put(ONE, b"", b"x" * 1_000) == ring.ACCEPTED

    def test_in_hand_does_not_shorten_the_queue(self, rig: RingFiles) -> None:
        """As many records as wait can be in the consumer's hands besides."""
        producer, _ = rig.publisher()
        consumer, *_ = rig.worker()
        for _ in range(64):
            assert producer.put(ONE, b"", b"") == ring.ACCEPTED
        assert len(consumer.take(64)) == 64
        for _ in range(64):
            assert producer.put(ONE, b"", b"") == ring.ACCEPTED
        assert producer.put(ONE, b"", b"") == ring.FULL


class TestDropOldest:
    @pytest.fixture
    def rig(self, tmp_path: Path) -> RingFiles:
        return RingFiles(tmp_path, queue_size=4, capacity=4096, drop_oldest=True)

    def test_makes_room_for_the_newest(self, rig: RingFiles) -> None:
        """Records that wait go, oldest first and one at a time; each is counted for each target."""
        producer, counters = rig.publisher()
        for n in range(100):
            assert producer.put(pack(1, 2), b"%d" % n, b"", counters) == ring.ACCEPTED
            assert producer.waiting == min(n + 1, 4)
        taken = rig.worker()[0].take(100)
        assert [d.event for d in taken[::2]] == [b"96", b"97", b"98", b"99"]
        assert [counters.row(e) for e in (1, 2)] == [[100, 96], [100, 96]]

    def test_never_takes_what_is_in_hand(self, rig: RingFiles) -> None:
        """A taken record stays in the file until it is settled."""
        producer, counters = rig.publisher()
        consumer, *_ = rig.worker()
        producer.put(ONE, b"first", b"x" * 100, counters)
        consumer.take(1)
        while producer.put(ONE, b"", b"x" * 300, counters) == ring.ACCEPTED:
            pass
        consumer, *_ = rig.worker()
        assert consumer.take(1)[0].event == b"first"

    def test_drops_nothing_for_a_record_that_is_refused_after_all(self, rig: RingFiles) -> None:
        """A record in hand that is in the way of more bytes is no reason to drop others."""
        producer, counters = rig.publisher()
        consumer, *_ = rig.worker()
        producer.put(ONE, b"", b"", counters)
        consumer.take(1)
        for _ in range(4):
            assert producer.put(ONE, b"", b"x" * 900, counters) == ring.ACCEPTED
        assert producer.put(ONE, b"", b"x" * 900, counters) == ring.FULL
        assert counters.get(1, DROPPED) == 0
        assert len(consumer.take(9)) == 4

    def test_what_a_dead_consumer_had_waits_again(self, rig: RingFiles) -> None:
        """The producer forgets what it dropped behind it: those before it count, and can go first."""
        producer, counters = rig.publisher()
        consumer, *_ = rig.worker()
        for n in range(4):
            producer.put(ONE, b"%d" % n, b"", counters)
        consumer.take(2)
        for n in range(4, 8):  # 2 and 3 are dropped
            producer.put(ONE, b"%d" % n, b"", counters)
        assert producer.waiting == 4
        consumer, *_ = rig.worker()
        assert producer.waiting == 8  # the holes count until they are looked at
        assert producer.put(ONE, b"8", b"", counters) == ring.ACCEPTED
        assert [d.event for d in consumer.take(9)] == [b"5", b"6", b"7", b"8"]

    def test_drop_without_counters(self, rig: RingFiles) -> None:
        """Counters are optional, for dropping too."""
        producer, _ = rig.publisher()
        for n in range(100):
            assert producer.put(ONE, b"%d" % n, b"") == ring.ACCEPTED
        assert rig.worker()[0].take(1)[0].event == b"96"


class TestSeveralProducers:
    def test_may_take_turns(self, rig: RingFiles) -> None:
        """A thread that still holds a replaced Producer object puts where the new one left off."""
        old, _ = rig.publisher()
        new, _ = rig.publisher()
        for n in range(16):
            assert (old, new)[n % 3 == 0].put(ONE, b"%d" % n, b"x" * 700) == ring.ACCEPTED
        taken = rig.worker()[0].take(100)
        assert [d.event for d in taken] == [b"%d" % n for n in range(16)]

    def test_the_one_with_the_shortest_backlog(self, tmp_path: Path) -> None:
        """`least_backlog` breaks ties at random, but gives the first while that has few; 0 where
        there is none to choose."""
        producers = []
        for n, waiting in enumerate([4, 1, 2, 1, 0, 0, 3]):
            (tmp_path / str(n)).mkdir()
            producer, _ = RingFiles(tmp_path / str(n)).publisher()
            for _ in range(waiting):
                producer.put(ONE, b"", b"")
            producers.append(producer)
        assert {ring.least_backlog(producers[:4]) for _ in range(100)} == {1, 3}
        assert {ring.least_backlog(producers) for _ in range(100)} == {4, 5}
        assert {ring.least_backlog(producers[6:] + producers[:6]) for _ in range(100)} == {0}
        assert ring.least_backlog(producers[:1]) == 0
        assert ring.least_backlog([]) == 0
        with pytest.raises(TypeError):
            ring.least_backlog([None])  # type: ignore[list-item]

    def test_what_the_consumer_holds_is_backlog(self, rig: RingFiles) -> None:
        """Each target of a record that was taken counts until it is settled or handed over, and none
        after the consumer has started over."""
        producer, _ = rig.publisher()
        consumer, outbox, counters = rig.worker()
        for _ in range(3):
            producer.put(pack(1, 2), b"", b"")
        assert (producer.waiting, producer.backlog) == (3, 3)
        first, second, *_ = consumer.take(2)
        assert (producer.waiting, producer.backlog) == (1, 1 + 4)
        first.settle(counters, 0)
        assert second.hand_over(outbox, 7, b"", b"", counters) == ring.ACCEPTED
        assert producer.backlog == 1 + 2
        consumer.rewind()
        assert (producer.waiting, producer.backlog) == (2, 2)
        for delivery in consumer.take(9):
            delivery.settle()
        assert producer.backlog == 0
        assert producer.empty


class TestDelivery:
    def test_fresh_ones_are_settled_together(self, rig: RingFiles) -> None:
        """Each is counted in its endpoint's row; those with an id, which are the store's, come back."""
        producer, _ = rig.publisher()
        consumer, _, counters = rig.worker()
        producer.put(pack(1, 2, 3), b"", b"")
        first, second, third = consumer.take(1)
        second.id = 7
        assert ring.settle_fresh((first, second, third), counters, 0) == [second]
        assert [counters.get(row, 0) for row in (1, 2, 3)] == [1, 0, 1]
        assert [d.in_ring for d in (first, second, third)] == [False, True, False]
        assert producer.backlog == 1
        with pytest.raises(ValueError, match="left its ring"):
            ring.settle_fresh([first], counters, 0)
        with pytest.raises(TypeError):
            ring.settle_fresh([None], counters, 0)  # type: ignore[list-item]

    def test_is_settled_once(self, rig: RingFiles) -> None:
        """A delivery that left its ring cannot be settled again, and is counted once."""
        producer, _ = rig.publisher()
        consumer, outbox, counters = rig.worker()
        producer.put(pack(1, 2), b"", b"")
        first, second = consumer.take(1)
        assert first.settle(counters, SETTLED)
        assert not first.in_ring
        with pytest.raises(ValueError, match="left its ring"):
            first.settle(counters, SETTLED)
        assert second.hand_over(outbox, 7, b"why", b"", counters) == ring.ACCEPTED
        with pytest.raises(ValueError, match="left its ring"):
            second.settle(counters, SETTLED)
        assert (counters.get(1, SETTLED), counters.get(2, SETTLED)) == (1, 0)
        assert consumer.empty

    def test_that_left_its_ring_can_still_be_reported(self, rig: RingFiles) -> None:
        """`hand_over` then only puts."""
        producer, _ = rig.publisher()
        consumer, outbox, counters = rig.worker()
        producer.put(ONE, b"", b"")
        (delivery,) = consumer.take(1)
        for n in range(2):
            assert delivery.hand_over(outbox, n, b"%d" % n, b"", counters) == ring.ACCEPTED
        assert [(d.endpoint, d.event) for d in rig.scheduler().take(9)] == [(0, b"0"), (1, b"1")]

    def test_is_handed_over_to_the_disk(self, rig: RingFiles) -> None:
        """An outbox that syncs changes nothing else."""
        producer, _ = rig.publisher()
        consumer, _, counters = rig.worker()
        outbox = ring.Producer(rig.outbox_path, sync=True)
        producer.put(ONE, b"", b"")
        (delivery,) = consumer.take(1)
        assert delivery.hand_over(outbox, 7, b"why", b"", counters) == ring.ACCEPTED
        assert consumer.empty
        assert [d.event for d in rig.scheduler().take(9)] == [b"why"]

    def test_a_predecessor_settled(self, rig: RingFiles) -> None:
        """A void delivery settles nothing and is not counted."""
        producer, _ = rig.publisher()
        consumer, *_ = rig.worker()
        producer.put(ONE, b"", b"")
        (void,) = consumer.take(1)
        consumer, _, counters = rig.worker()
        (delivery,) = consumer.take(1)
        assert delivery.settle(counters, SETTLED)
        assert not void.settle(counters, SETTLED)
        assert counters.get(1, SETTLED) == 1

    def test_stays_where_the_outbox_cannot_take_it(self, rig: RingFiles) -> None:
        """Full or too large: nothing has changed, and it can be settled otherwise."""
        producer, _ = rig.publisher()
        consumer, outbox, counters = rig.worker()
        producer.put(ONE, b"", b"")
        (delivery,) = consumer.take(1)
        assert delivery.hand_over(outbox, 1, b"", b"x" * 9_000, counters) == ring.TOO_LARGE
        while outbox.put(ONE, b"", b"x" * 1_000) == ring.ACCEPTED:
            pass
        assert delivery.hand_over(outbox, 1, b"", b"x" * 1_000, counters) == ring.FULL
        assert delivery.in_ring
        assert not counters.interrupted
        assert delivery.settle(counters, SETTLED)


class TestWakeUp:
    def test_rings_only_for_a_sleeper(self, rig: RingFiles, doorbell: tuple[int, int]) -> None:
        """One byte for the first record after `arm`; none for others, none while it is awake."""
        reading, writing = doorbell
        producer, _ = rig.publisher(doorbell=writing)
        consumer, *_ = rig.worker()
        producer.put(ONE, b"", b"")
        assert rung(reading) == 0
        consumer.take(9)
        assert consumer.arm()
        for _ in range(3):
            producer.put(ONE, b"", b"")
        assert rung(reading) == 1
        consumer.take(9)
        assert consumer.arm()
        consumer.take(9)
        producer.put(ONE, b"", b"")
        assert rung(reading) == 0

    def test_must_not_sleep_over_a_record(self, rig: RingFiles) -> None:
        """`arm` is false as long as there is something to look at."""
        producer, _ = rig.publisher()
        consumer, *_ = rig.worker()
        assert consumer.arm()
        producer.put(ONE, b"", b"")
        producer.put(ONE, b"", b"")
        assert not consumer.arm()
        consumer.take(1)
        assert not consumer.arm()
        consumer.take(1)
        assert consumer.arm()

    def test_a_full_bell_rings_already(self, rig: RingFiles, doorbell: tuple[int, int]) -> None:
        """If the doorbell takes no more bytes the put succeeds all the same."""
        _, writing = doorbell
        while True:
            try:
                os.write(writing, b"x" * 4096)
            except BlockingIOError:
                break
        producer, _ = rig.publisher(doorbell=writing)
        consumer, *_ = rig.worker()
        assert consumer.arm()
        assert producer.put(ONE, b"", b"") == ring.ACCEPTED

    def test_none_is_missed(self, tmp_path: Path) -> None:
        """Dekker: over 100,000 sleeps, most of them announced while a record is on its way, the
        consumer either sees the record or hears the doorbell."""
        rounds, limit_s = 100_000, 8.0
        rig = RingFiles(tmp_path)
        os.mkfifo(tmp_path / "bell")
        doorbell = os.open(tmp_path / "bell", os.O_RDWR | os.O_NONBLOCK)

        def publish() -> None:
            producer, _ = rig.publisher(doorbell=doorbell)
            give_up_at = time.monotonic() + limit_s
            for n in range(rounds):
                while not producer.empty:  # the consumer is just about to sleep then
                    pass
                for _ in range(n % 23):
                    pass
                producer.put(ONE, b"", b"")
                if n % 1_000 == 0 and time.monotonic() > give_up_at:
                    break
            producer.put(ONE, b"last", b"")

        def consume() -> None:
            consumer, *_ = rig.worker()
            epoll = select.epoll()
            epoll.register(doorbell, select.EPOLLIN)
            armed = slept = heard = 0
            while True:
                armed += 1
                if consumer.arm():
                    slept += 1
                    assert epoll.poll(5.0), f"missed a wake-up after {slept} sleeps"
                heard += rung(doorbell)
                for delivery in consumer.take(9):
                    delivery.settle()
                    if delivery.event == b"last":
                        assert heard <= armed
                        assert 100 < slept < armed  # both sides of the race were met
                        return

        publisher = fork(publish)
        try:
            assert run_apart(consume, limit_s=30) == 0
            assert outcome(publisher) == 0
        finally:
            kill(publisher)
            os.close(doorbell)

    def test_none_is_missed_at_close_quarters(self, tmp_path: Path) -> None:
        """The same where the two meet within nanoseconds (`dekker.c`): without either fence of ring.h
        some percent of the sleeps would have no end."""
        source = str(Path(__file__).parent / "dekker.c")
        program = compile_c(tmp_path, "dekker", "-O2", source)
        output = subprocess.run([program, "500000", "2"], check=True, capture_output=True).stdout
        rounds, slept, missed = map(int, output.split())
        assert 0 < slept < rounds
        assert missed == 0


class TestFork:
    def test_a_child_does_not_write(self, rig: RingFiles) -> None:
        """An inherited producer, or outbox, answers FORKED and leaves the file as it is."""
        producer, published = rig.publisher()
        consumer, outbox, worked = rig.worker()
        producer.put(ONE, b"", b"", published)
        (delivery,) = consumer.take(1)
        before = Path(rig.path).read_bytes()

        def child() -> None:
            assert producer.put(ONE, b"", b"", published) == ring.FORKED
            assert delivery.hand_over(outbox, 1, b"", b"", worked) == ring.FORKED
            assert Path(rig.path).read_bytes() == before
            assert outbox.tail == 0

        assert run_apart(child) == 0
        assert producer.put(ONE, b"", b"", published) == ring.ACCEPTED
        assert rig.balance() == [0] * 8

    def test_a_child_opens_its_own(self, rig: RingFiles, tmp_path: Path) -> None:
        """A producer that was opened after the fork is the child's."""
        assert run_apart(lambda: rig.publisher()[0].put(ONE, b"child", b"")) == 0
        assert rig.worker()[0].take(1)[0].event == b"child"


class TestBorder:
    @pytest.mark.parametrize(
        ("queue_size", "capacity"), [(0, 4096), (1 << 29, 4096), (1, 4095), (1, 1 << 49)]
    )
    def test_impossible_rings_are_refused(
        self, tmp_path: Path, queue_size: int, capacity: int
    ) -> None:
        """Before anything stands on the disk."""
        with pytest.raises(ValueError, match="a ring's"):
            ring.create_ring(str(tmp_path / "ring"), queue_size, capacity, BOOT_ID)
        with pytest.raises(OverflowError):
            ring.create_ring(str(tmp_path / "ring"), -1, capacity, BOOT_ID)
        assert list(tmp_path.iterdir()) == []

    def test_boot_ids_have_16_bytes(self, rig: RingFiles) -> None:
        """A shorter one would be read past its end."""
        with pytest.raises(ValueError, match="16 bytes"):
            ring.repair_ring(rig.path, b"short")
        with pytest.raises(ValueError, match="16 bytes"):
            ring.create_ring(rig.path, 1, 4096, b"short")

    def test_geometry(self, tmp_path: Path) -> None:
        """The queue size as it was asked for, the bytes rounded up to 8; a new file has a new uid."""
        path = str(tmp_path / "ring")
        uids = set()
        for asked, capacity in ((4096, 4096), (4097, 4104), (4104, 4104)):
            ring.create_ring(path, 3, asked, BOOT_ID)
            assert ring.geometry(path) == (3, capacity)
            assert os.path.getsize(path) == ring.ring_bytes(3, asked)
            producer = ring.Producer(path)
            assert (producer.queue_size, producer.capacity_bytes) == (3, capacity)
            assert producer.uid == ring.Consumer(path).uid
            uids.add(producer.uid)
        assert len(uids) == 3

    def test_a_full_disk_is_an_error(self, tmp_path: Path) -> None:
        """Not a ring that kills its user later; and nothing is left behind."""
        path = str(tmp_path / "ring")
        with pytest.raises(OSError, match=r"."):
            ring.create_ring(path, 1, 1 << 47, BOOT_ID)
        assert list(tmp_path.iterdir()) == []

    def test_missing_files(self, tmp_path: Path) -> None:
        """Opening makes no ring."""
        path = str(tmp_path / "none")
        for opening in (ring.Producer, ring.Consumer, ring.unsettled, ring.geometry):
            with pytest.raises(FileNotFoundError):
                opening(path)
        with pytest.raises(FileNotFoundError):
            ring.repair_ring(path, BOOT_ID)

    def test_whatever_is_closed_is_a_value_error(self, rig: RingFiles) -> None:
        """Each method and property; closing twice is fine."""
        producer, published = rig.publisher()
        consumer, outbox, worked = rig.worker()
        producer.put(pack(1, 2, 3), b"", b"", published)
        deliveries = consumer.take(1)
        published.close()
        with pytest.raises(ValueError, match="closed"):
            producer.put(ONE, b"", b"", published)
        worked.close()
        with pytest.raises(ValueError, match="closed"):
            deliveries[0].settle(worked)
        with pytest.raises(ValueError, match="closed"):
            deliveries[0].hand_over(outbox, 1, b"", b"", worked)
        outbox.close()
        worked = rig.worked()
        with pytest.raises(ValueError, match="closed"):
            deliveries[0].hand_over(outbox, 1, b"", b"", worked)
        assert deliveries[0].in_ring
        for end in (producer, consumer):
            end.close()
            end.close()
        with pytest.raises(ValueError, match="closed"):
            deliveries[0].settle(worked)
        for name in ("uid", "head", "tail", "empty", "waiting", "capacity_bytes", "queue_size"):
            with pytest.raises(ValueError, match="closed"):
                getattr(producer, name)
        for name in ("uid", "head", "tail", "empty", "load"):
            with pytest.raises(ValueError, match="closed"):
                getattr(consumer, name)
        for call in (
            lambda: producer.put(ONE, b"", b""),
            lambda: producer.sync(),
            lambda: ring.least_backlog([producer]),
            lambda: consumer.take(1),
            lambda: consumer.arm(),
            lambda: consumer.rewind(),
            lambda: consumer.sync(),
        ):
            with pytest.raises(ValueError, match="closed"):
                call()

    def test_none_is_a_type_error(self, rig: RingFiles) -> None:
        """C reads what it is given: None is no bytes, no path, no outbox."""
        producer, _ = rig.publisher()
        consumer, outbox, counters = rig.worker()
        producer.put(ONE, b"", b"")
        (delivery,) = consumer.take(1)
        none: Any = None
        for call in (
            lambda: producer.put(none, b"", b""),
            lambda: producer.put(ONE, none, b""),
            lambda: producer.put(ONE, b"", none),
            lambda: delivery.hand_over(none, 1, b"", b"", counters),
            lambda: delivery.hand_over(outbox, 1, none, b"", counters),
            lambda: delivery.hand_over(outbox, 1, b"", none, counters),
            lambda: delivery.hand_over(outbox, 1, b"", b"", none),
            lambda: ring.recover(counters, none),
            lambda: ring.Producer(none),
            lambda: ring.Consumer(none),
            lambda: ring.unsettled(none),
            lambda: ring.geometry(none),
            lambda: ring.repair_ring(none, BOOT_ID),
            lambda: ring.repair_ring(rig.path, none),
            lambda: ring.create_ring(none, 1, 4096, BOOT_ID),
            lambda: ring.create_ring(rig.path, 1, 4096, none),
            lambda: shared.create_file(none, 1, b""),
            lambda: ring.least_backlog(none),
            lambda: ring.settle_fresh([], none, 0),
        ):
            with pytest.raises(TypeError):
                call()

    def test_objects_made_without_a_file(self) -> None:
        """`__new__` alone gives an object that is closed."""
        for kind in (ring.Producer, ring.Consumer, shared.Counters, shared.Words):
            with pytest.raises(ValueError, match="closed"):
                kind.__new__(kind).sync()
        with pytest.raises(ValueError, match="left its ring"):
            ring.RingDelivery().settle()

    def test_take_of_nothing(self, rig: RingFiles) -> None:
        """A limit of 0, or less, takes nothing."""
        producer, _ = rig.publisher()
        consumer, *_ = rig.worker()
        producer.put(ONE, b"", b"")
        assert consumer.take(0) == consumer.take(-1) == []
        assert len(consumer.take(1)) == 1
